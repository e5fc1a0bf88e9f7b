"""What `embedkit doctor` looks at in the environment: each check answers with one line, and a failure with the one
command that mends it. Checks take what they judge as arguments, so that they can be tried on made-up machines."""

import base64
import csv
import hashlib
import importlib.metadata
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.utils import canonicalize_name

from env.bootstrap import serving
from env.chooser import FLAVOURS, Choice, ChoiceError, choose, chosen, load_pins
from env.conda import FILES, environment_name
from env.door import Door
from env.hardware import Hardware
from env.jdk import JdkError, find_jdk
from env.requirements import packages_of

Status = Literal["ok", "note", "fail"]
Repair = Callable[[str], str]  # flavour → command
TOO_LONG = "importing torch or initialising CUDA took over 120 s"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor. `fix` is a shell command: with every failure, and it passes after that; a note may have
    one that tells more."""

    check: str
    status: Status
    detail: str
    fix: str = ""

    def __post_init__(self) -> None:
        assert self.fix or self.status != "fail", f"{self.check} fails without a command that mends it"


def as_root(command: str) -> str:
    return command if os.getuid() == 0 else f"sudo {command}"


def repair_by(door: Door, prefix: Path) -> Repair:
    """How the environment at `prefix` is built anew, from the lock of a flavour, by the door that made it."""

    def command(flavour: str) -> str:
        down = "make down && " if serving() else ""  # nothing may run from what is replaced
        if door.name == "container":
            return f"docker rm -f {socket.gethostname()}  # its files were changed: start the image anew"
        if door.name == "conda":
            file = next(file for file, one in FILES.items() if one == flavour)
            deps = "PIP_NO_DEPS=1 " if flavour == "cpu" else ""
            return (
                f"{down}conda deactivate && conda env remove -y -p {shlex.quote(str(prefix))} && "
                f"{deps}conda env create -f {file} && conda activate {environment_name(flavour)} && make env"
            )
        try:
            torch = "" if chosen().flavour == flavour else f"TORCH={flavour} "
        except ChoiceError:
            torch = f"TORCH={flavour} "
        return f"{down}{torch}make repair"

    return command


def python_version(version: tuple[int, int], repair: str) -> Finding:
    wanted = load_pins()["python"]["version"]
    found = ".".join(map(str, version))
    if found != wanted:
        fix = f"{repair} PYTHON=python{wanted}" if repair.endswith("make repair") else repair
        return Finding("python", "fail", f"Python {found}, the locks are for {wanted}", fix)
    return Finding("python", "ok", f"Python {found} at {sys.prefix}")


def entered_by(door: Door, choice: Choice) -> Finding:
    """The door, and the lock that came through it."""
    detail = f"{door.name}: {door.detail}, lock {choice.flavour} ({choice.reason})"
    return Finding("door", "note" if door.name == "none" else "ok", detail)


def locked_packages(choice: Choice) -> dict[str, str]:
    """Package name → version of a choice's lock."""
    return packages_of(choice.lock.read_text(encoding="utf-8"))


def lock_matches(choice: Choice, installed: Mapping[str, str], repair: str) -> Finding:
    """The lock against what is installed: missing packages and other versions, by name."""
    locked = locked_packages(choice)
    wrong = []
    for name, version in locked.items():
        found = installed.get(canonicalize_name(name))
        if found is None:
            wrong.append(f"{name} {version} is not installed")
        elif found != version:
            wrong.append(f"{name} is {found}, locked {version}")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        return Finding("lock", "fail", "; ".join(wrong[:5]) + more, repair)
    return Finding("lock", "ok", f"{len(locked)} packages as env/locks/{choice.flavour}.txt says")


def _changed_file(path: Path, recorded: str) -> bool:
    algorithm, _, wanted = recorded.partition("=")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).digest()
    except OSError:
        return True
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != wanted


def recorded_files(names: Iterable[str]) -> Iterator[tuple[str, Path, str]]:
    """(package, file, recorded hash) of every file that the packages' RECORDs hash."""
    for name in names:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # lock_matches names it
        record = distribution.read_text("RECORD") or ""
        for row in csv.reader(record.splitlines()):
            if len(row) >= 2 and row[1]:
                yield name, Path(str(distribution.locate_file(row[0]))), row[1]


def unchanged_since_install(names: Iterable[str], repair: str) -> Finding:
    """Every file of these packages against the hash that its wheel recorded."""
    files = list(recorded_files(names))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        changed = list(pool.map(lambda one: _changed_file(one[1], one[2]), files))
    bad = [(name, path) for (name, path, _), is_changed in zip(files, changed, strict=True) if is_changed]
    if bad:
        name, path = bad[0]
        more = f" and {len(bad) - 1} more files" if len(bad) > 1 else ""
        return Finding("packages", "fail", f"{name} was changed after it was installed: {path}{more}", repair)
    return Finding("packages", "ok", f"{len(files)} files as their wheels recorded them")


def jdk(environ: Mapping[str, str], repair: str) -> Finding:
    try:
        found = find_jdk(environ)
    except JdkError as error:
        fix = repair  # the lock has one
        if environ.get("JAVA_HOME"):
            others = {name: value for name, value in environ.items() if name != "JAVA_HOME"}
            again = jdk(others, repair)
            fix = "unset JAVA_HOME" if again.status != "fail" else f"unset JAVA_HOME && {repair}"
        return Finding("jdk", "fail", str(error), fix)
    detail = f"Java {found.version} from {found.origin}, {found.java}"
    return Finding("jdk", "note", f"{detail}: {found.note}") if found.note else Finding("jdk", "ok", detail)


def probe_torch() -> tuple[str, str | None, str]:
    """(version, CUDA version of the build or None, why CUDA is unusable or ""), asked of a fresh process: a broken
    driver can hang or crash whoever initialises it."""
    code = (
        "import torch\n"
        "print(torch.__version__); print(torch.version.cuda or '')\n"
        "if torch.version.cuda:\n"
        "    try: torch.zeros(1, device='cuda').item()\n"
        "    except Exception as error: print(' '.join(str(error).split())[:300])\n"
    )
    try:
        command = [sys.executable, "-I", "-c", code]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except subprocess.TimeoutExpired:
        return "unknown", None, TOO_LONG
    except subprocess.CalledProcessError as error:
        return "unknown", None, (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
    lines = [*asked.stdout.splitlines(), "", ""]
    return lines[0], lines[1] or None, lines[2]


def torch_build(hardware: Hardware, build: tuple[str, str | None, str], here: Choice, repair: Repair) -> Finding:
    """torch's build (see probe_torch) against the driver and the GPUs; `here` is the lock that it came from."""
    version, cuda, trouble = build
    driver = hardware.driver
    if version == "unknown":
        flavour = "cpu" if trouble == TOO_LONG and driver else here.flavour  # what hangs in a driver hangs again
        return Finding("torch", "fail", f"torch cannot be imported: {trouble}", repair(flavour))
    shown = f"torch {version}, CPU build" if cuda is None else f"torch {version} for CUDA {cuda}"
    if driver is None:
        how = "no NVIDIA driver here" if cuda is None else "no NVIDIA driver here, computing on the CPU"
        return Finding("torch", "ok" if cuda is None else "note", f"{shown}; {how}")
    best = choose(driver, None, load_pins())
    gpus = ", ".join(gpu.name for gpu in hardware.gpus or hardware.idle) or "no GPU that is seen"
    if cuda is None:
        return _beside_a_gpu(f"{shown} beside NVIDIA driver {driver} and {gpus}", here, best, repair)
    if trouble:
        shown += f" cannot use the GPU (driver {driver}): {trouble}"
        return Finding("torch", "fail", *_usable(shown, here, best, trouble, repair))
    return Finding("torch", "ok", f"{shown}, driver {driver}: {gpus}")


def _beside_a_gpu(detail: str, here: Choice, best: Choice, repair: Repair) -> Finding:
    """A CPU build leaves a GPU idle in silence: a fault, unless it was asked for or the driver runs no other."""
    if best.flavour == "cpu":
        return Finding("torch", "note", f"{detail}: {best.reason}")
    if here.deliberate:
        return Finding("torch", "note", f"{detail}, as TORCH={here.flavour} asked")
    return Finding("torch", "fail", f"{detail}; if that is meant: TORCH=cpu make env", repair(best.flavour))


def _usable(detail: str, here: Choice, best: Choice, trouble: str, repair: Repair) -> tuple[str, str]:
    """(what is wrong, the command that mends it) where a CUDA build does not compute."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
        return detail, "unset CUDA_VISIBLE_DEVICES"
    if FLAVOURS.index(best.flavour) < FLAVOURS.index(here.flavour):
        oldest = load_pins()["torch"][here.flavour]["driver"]
        return f"{detail}; {here.flavour} needs driver {oldest} or newer", repair(best.flavour)
    if here.flavour == "cuda13" and "no kernel image" in trouble:  # cuda12 still computes on GPUs that cuda13 left out
        return detail, repair("cuda12")
    return f"{detail}; the driver has to be mended, until then the CPU is left", repair("cpu")


def trained_with(model: str, trained: Mapping[str, str], installed: Mapping[str, str]) -> Finding:
    """The versions a model was trained with (config_sentence_transformers.json) against the environment's."""
    check = f"model {model}"
    names = {
        "sentence_transformers": "sentence-transformers",
        "transformers": "transformers",
        "pytorch": "torch",
    }
    different = [
        f"{label} {installed[label]} here, {trained[key]} at training"
        for key, label in names.items()
        if key in trained and label in installed and trained[key] != installed[label]
    ]
    if not trained:
        return Finding(check, "note", "its folder does not say which versions it was trained with")
    if different:
        return Finding(check, "note", "; ".join(different))
    return Finding(check, "ok", "the versions it was trained with")
