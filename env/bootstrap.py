"""Build the environment in .venv from a hashed lock, or finish the one that conda made. Standard library only.

    python3.11 -m env.bootstrap          the runtime environment
    python3.11 -m env.bootstrap --dev    with the development tools too
    python3.11 -m env.bootstrap --repair from nothing, whatever is there

Takes exactly what the lock says, from wherever pip's own settings point; INSTALLER=uv in the environment lets uv do it.
A second run finds the stamp of the first and returns at once; a run that was interrupted is repeated.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

if find_spec("tomllib") is None:  # a Python so old that what follows cannot even be imported
    sys.exit(
        f"embedkit set-up: this is Python {sys.version.split()[0]} ({sys.executable}); the locks are for Python 3.11: "
        "install it and name it, for example: make up PYTHON=/usr/bin/python3.11"
    )

from env.chooser import ASKED, Choice, chosen, load_pins, lock_path
from env.conda import prefix_problem
from env.door import in_conda
from env.errors import PinError
from env.installer import SAYS, SetupError, installer, say, take_lock
from env.paths import refusal

ROOT = Path(__file__).resolve().parent.parent
IN_CONDA = in_conda(os.environ, Path(sys.prefix))
VENV = Path(sys.prefix) if IN_CONDA else ROOT / ".venv"
FREE_BYTES = {"cpu": 3 << 30, "cuda12": 12 << 30, "cuda13": 12 << 30}


class Stamps:
    """What was installed into .venv, so that a second run has nothing to do and an interrupted one goes on.

    `lock`, `dev` and `project` hold digests of what each part was made from; `lock` is written when all packages are
    in, and while they are not, `building` says which lock they are being taken from.
    """

    def __init__(self, choice: Choice) -> None:
        # Of one interpreter too: a door's own Python may go while another door's stays.
        place = f"{sys.version_info[:2]}{sys.base_prefix}{ROOT}".encode()
        self.wanted = {
            "lock": self._digest(place + choice.lock.read_bytes(), choice),
            "dev": self._digest(place + choice.lock.read_bytes() + lock_path("dev").read_bytes(), choice),
            "project": self._digest(place + (ROOT / "pyproject.toml").read_bytes(), choice),
        }

    @staticmethod
    def _digest(content: bytes, choice: Choice) -> str:
        return f"{choice.flavour} {hashlib.sha256(content).hexdigest()}\n"

    @staticmethod
    def file(part: str) -> Path:
        return VENV / f".embedkit-{part}"

    def current(self, part: str) -> bool:
        return self.file(part).exists() and self.file(part).read_text() == self.wanted[part]

    def resumable(self) -> bool:
        """Whether .venv holds a part of this very lock and nothing of another."""
        building = self.file("building")
        return building.exists() and building.read_text() == self.wanted["lock"]

    def start(self) -> None:
        for part in self.wanted:
            self.file(part).unlink(missing_ok=True)
        self.file("building").write_text(self.wanted["lock"])

    def done(self, part: str) -> None:
        self.file(part).write_text(self.wanted[part])


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two set-ups of one checkout follow each other."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # var/, which is for this user alone
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another set-up of this checkout is running (it holds {path}); waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def check_machine(choice: Choice) -> None:
    """Refuse early what could not end well.

    Raises:
        SetupError: Python is not 3.11, the disk is too full, or the service runs from the environment to be replaced.
    """
    wanted = load_pins()["python"]["version"]
    if "{}.{}".format(*sys.version_info) != wanted:
        raise SetupError(
            f"this is Python {sys.version.split()[0]} ({sys.executable}); the locks are for Python {wanted}: "
            f"install it and name it, for example: make up PYTHON=/usr/bin/python{wanted}"
        )
    free = shutil.disk_usage(ROOT).free
    if free < FREE_BYTES[choice.flavour]:
        raise SetupError(
            f"{free >> 20} MB free below {ROOT}; the {choice.flavour} environment needs "
            f"{FREE_BYTES[choice.flavour] >> 20} MB"
        )


def serving() -> bool:
    """Whether a supervisord runs from .venv, whatever folder its state is in; its programs would lose their files."""
    ours = os.fsencode(VENV / "bin" / "supervisord")
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if ours in cmdline.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue  # it ended meanwhile
    return False


def create_venv(choice: Choice, stamps: Stamps, *, repair: bool) -> None:
    """An empty .venv, unless an earlier run left a part of the same lock.

    Raises:
        SetupError: the service runs from the .venv that would be replaced, or this Python cannot make one.
    """
    if stamps.resumable() and not repair:
        say("going on where an earlier run stopped")
        return
    if serving():
        raise SetupError(f"{VENV} has to be built anew and the service runs from it: `make down` first, then again")
    say(f"creating {VENV}")
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except subprocess.CalledProcessError as error:  # Debian's Python has no ensurepip of its own
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment with pip: install its venv package "
            "(python3.11-venv on Debian and Ubuntu), then run this again"
        ) from error
    stamps.start()


def remember(choice: Choice) -> None:
    """Leave in the environment whether a person's TORCH named its lock: the doctor then finds no fault with it."""
    file, asked = VENV / ASKED, choice.flavour if choice.deliberate else ""
    with suppress(PermissionError):  # another user's environment, which serves all the same
        if not file.exists() or file.read_text() != asked:
            file.write_text(asked)


def build(choice: Choice, *, dev: bool, repair: bool) -> None:
    """Do what is left to do for this choice.

    Raises:
        SetupError: see the steps.
    """
    stamps = Stamps(choice)
    parts = ["lock", "project", *(["dev"] if dev else [])]
    missing = parts if repair else [part for part in parts if not stamps.current(part)]
    if not missing:
        remember(choice)
        return
    started = time.monotonic()
    say(f"the {choice.flavour} environment, because {choice.reason}")
    check_machine(choice)
    pip = installer(VENV / "bin" / "python", os.environ.get("INSTALLER"))
    if "lock" in missing and IN_CONDA:
        problem = prefix_problem(VENV, choice, repair=repair)
        if problem:
            raise SetupError(problem)
        stamps.start()
        stamps.done("lock")
    elif "lock" in missing:
        create_venv(choice, stamps, repair=repair)
        take_lock(pip, choice)
        stamps.done("lock")
    if not stamps.current("project"):
        if not pip.run("--no-deps", "--no-build-isolation", "--quiet", "--editable", str(ROOT)):
            raise SetupError(f"the project itself could not be installed: {SAYS}")
        # supervisorctl finds its configuration from now on, and before `make up` says what to do.
        if subprocess.run([pip.python, "-m", "ops.supervisor.config"], cwd=ROOT, check=False).returncode:
            raise SetupError("supervisorctl's configuration could not be written: the lines above say why")
        stamps.done("project")
    if dev and not stamps.current("dev"):
        say("development tools from env/locks/dev.txt")
        if not pip.locked(lock_path("dev").read_text(encoding="utf-8"), *pip.wheels_only):
            raise SetupError(f"the development tools could not be installed: {SAYS}")
        stamps.done("dev")
    remember(choice)
    say(f"ready in {time.monotonic() - started:.0f} s: {VENV}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dev", action="store_true", help="install the development tools too")
    parser.add_argument("--repair", action="store_true", help="build the environment anew")
    wanted = parser.parse_args()
    try:
        if why := refusal(ROOT, checkout=True) or refusal(VENV, checkout=True):
            raise SetupError(f"{why}: move the checkout to a folder without it")
        with only_one(ROOT / "var" / "set-up.lock"):
            build(chosen(), dev=wanted.dev, repair=wanted.repair)
    except (PinError, SetupError) as error:
        print(f"embedkit set-up: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"embedkit set-up: {error.filename or VENV}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nembedkit set-up: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
