"""Take packages from a hashed lock, and nothing else: by pip, or by uv. Standard library only.

Both get the same entries in the same three steps, resolve nothing and check every hash. A folder env/wheels, which a
bundle brings (docs/offline.md), is then the only place that they look in.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from env.chooser import Choice, load_pins
from env.requirements import packages_of, subset

WHEELS = Path(__file__).resolve().parent / "wheels"
BUILD_BACKEND = {"setuptools", "wheel"}
SOURCE_ONLY = "sentence-transformers"  # 2.2.2 was published without a wheel
SAYS = "the last lines above say why"
# A user's PYTHONPATH, PIP_TARGET or PIP_USER would put packages elsewhere; mirrors and proxies stay.
ELSEWHERE = frozenset({"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV"})


class SetupError(RuntimeError):
    """The environment cannot be built; the message says what to do."""


def say(text: str) -> None:
    print(f"embedkit set-up: {text}", flush=True)


# pip's name of a setting → uv's.
AS_UV = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX", "PIP_FIND_LINKS": "UV_FIND_LINKS"}


class Pip:
    """pip of an environment. `verb` is what it does with the packages: install them, or download them to a folder."""

    wheels_only: tuple[str, ...] = ("--only-binary", ":all:")
    but_one_from_source: tuple[str, ...] = (
        *("--only-binary", ":all:", "--no-binary", SOURCE_ONLY),
        "--no-build-isolation",
    )

    def __init__(self, python: Path, verb: tuple[str, ...] = ("install",)) -> None:
        self.python, self.verb = python, verb

    def command(self) -> list[str]:
        return [str(self.python), "-m", "pip", "--disable-pip-version-check", *self.verb, "--no-input"]

    def index(self, url: str) -> tuple[str, ...]:
        """Arguments for one short try at this index alone."""
        return ("--index-url", url, "--retries", "1", "--timeout", "20")

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        return {key: value for key, value in environ.items() if key not in ELSEWHERE}

    def run(self, *args: str) -> bool:
        carried = ("--no-index", "--find-links", str(WHEELS)) if WHEELS.is_dir() else ()
        command = [*self.command(), *carried, *args]
        return subprocess.run(command, env=self.environment(os.environ), check=False).returncode == 0

    def locked(self, entries: str, *args: str) -> bool:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="embedkit-lock-") as handle:
            handle.write(entries)
            handle.flush()
            return self.run("--no-deps", "--require-hashes", "-r", handle.name, *args)


class Uv(Pip):
    """uv on PATH, installing into an environment. It does not read pip's settings: those of the environment are told
    to it, where it has none of its own."""

    wheels_only = ("--no-build",)
    but_one_from_source = ("--no-binary", SOURCE_ONLY, "--no-build-isolation")

    def command(self) -> list[str]:
        return ["uv", "pip", *self.verb, "--python", str(self.python)]

    def index(self, url: str) -> tuple[str, ...]:
        return ("--default-index", url)

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        told = {ours: environ[pips] for pips, ours in AS_UV.items() if environ.get(pips)}
        return {**told, **super().environment(environ)}


def installer(python: Path, wanted: str | None) -> Pip:
    """What INSTALLER names: `uv`, or else pip.

    Raises:
        SetupError: it names something else, or uv is not there.
    """
    if wanted in {None, "", "pip"}:
        return Pip(python)
    if wanted != "uv":
        raise SetupError(f"INSTALLER={wanted!r} is neither pip nor uv")
    if shutil.which("uv") is None:
        raise SetupError("INSTALLER=uv, and there is no uv on PATH: install it, or unset INSTALLER to use pip")
    return Uv(python)


def take_torch(pip: Pip, entry: str, choice: Choice) -> None:
    """torch by itself, because its CPU build may have to come from PyTorch's own index.

    Raises:
        SetupError: neither the installer's settings nor that index offer the pinned build.
    """
    say("torch, from where pip's own settings say" if not WHEELS.is_dir() else "torch, from the bundle")
    if pip.locked(entry, *pip.wheels_only):
        return
    if WHEELS.is_dir():
        raise SetupError(
            f"{WHEELS} has no torch of the {choice.flavour} lock: export the TORCH that its bundle was made for"
        )
    if choice.flavour != "cpu":
        raise SetupError(f"torch could not be had: {SAYS}")
    pin = load_pins()["torch"]["cpu"]
    say(f"not offered there; asking PyTorch's CPU index, {pin['index']}, for this one package")
    if not pip.locked(entry, *pip.wheels_only, *pip.index(pin["index"])):
        raise SetupError(
            f"torch {pin['version']} (sha256 {pin['sha256'][:12]}…) could be had neither through pip's own settings "
            f"nor from {pin['index']}. Put that wheel in a folder and name it: PIP_FIND_LINKS=/that/folder make up; "
            "or take the CUDA build, which also runs without a GPU but is several GB: TORCH=cuda13 make up"
        )


def take_lock(pip: Pip, choice: Choice) -> None:
    """Everything that the lock names: what builds from source first, then torch, then the rest.

    Raises:
        SetupError: a package cannot be had.
    """
    lock = choice.lock.read_text(encoding="utf-8")
    say(f"{len(packages_of(lock))} packages from env/locks/{choice.lock.name}")
    if not pip.locked(subset(lock, BUILD_BACKEND), *pip.wheels_only):
        raise SetupError(f"the build backend could not be had: {SAYS}")
    take_torch(pip, subset(lock, {"torch"}), choice)
    rest = subset(lock, set(packages_of(lock)) - BUILD_BACKEND - {"torch"})
    if not pip.locked(rest, *pip.but_one_from_source):
        raise SetupError(f"not all of the lock could be had: {SAYS}, then run this again")
