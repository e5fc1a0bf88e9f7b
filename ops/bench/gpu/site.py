"""An environment on the GPU machine, out of what was carried: nothing is asked of any index. Standard library and pip.

SITE is a virtual environment that sees of the machine's packages only torch, what torch needs, and the borrowed ones
(wheels.py), by links in SITE/machine: transformers imports much of what it finds, and must not find the machine's.
SITE/infinity is a second one, for infinity.
"""

import importlib.metadata
import json
import re
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable, Iterable
from pathlib import Path

from env.requirements import packages_of
from ops.bench.gpu import wheels
from ops.bench.gpu.collect import CARRIED, pip, sha256
from ops.bench.gpu.wheels import BORROWED, CarryError, normal

ROOT = Path(__file__).resolve().parents[3]
INFINITY = "infinity"
_ENTRY = re.compile(r"[A-Za-z0-9._-]+")


def install(site: Path, steps: Iterable[Path], say: Callable[[str], None]) -> None:
    """Add these steps to the environment, made where it is not there yet.

    Raises:
        CarryError: a step is not whole or for another Python, or torch is not to be found here.
    """
    steps = list(steps)
    for step in steps:  # all of them before anything is changed
        _check(step)
    if not (site / "bin" / "python").exists():
        _make(site)
    for step in steps:
        files = json.loads((step / CARRIED).read_text())["files"]
        for into, place in (("site", site), (INFINITY, site / INFINITY)):
            chosen = [str(step / name) for name, about in files.items() if into in about["into"]]
            if chosen:
                # pip compiles them, once: gpu.sh's many processes keep no bytecode of their own.
                pip("install", "--no-index", "--no-deps", *chosen, python=place / "bin" / "python")
        say(f"{step}: installed {len(files)} wheels")
    for what, missing in (("", still_lacking(site)), (" for infinity", infinity_lacks(site))):
        if missing:
            say(f"still missing{what}: {', '.join(missing)}: install the other steps too")


def still_lacking(site: Path) -> list[str]:
    """What the kit needs and this environment does not have yet."""
    return wheels.lacking(packages_of(wheels.SITE_LOCK.read_text(encoding="utf-8")), _installed(site))


def infinity_lacks(site: Path) -> list[str]:
    """The same for infinity."""
    pins = wheels.infinity_pins(wheels.INFINITY_LOCK.read_text(encoding="utf-8"))
    shared = dict.fromkeys(BORROWED, "any")
    return wheels.lacking(pins | shared, _installed(site / INFINITY))


def _check(step: Path) -> None:
    try:
        about = json.loads((step / CARRIED).read_text())
    except (OSError, ValueError) as error:
        raise CarryError(f"{step}: no step of a collection ({error}): make it with `gpu.sh collect`") from error
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if about["python"] != here:
        raise CarryError(
            f"{step} was collected for Python {about['python']}, and {sys.executable} is {here}: "
            f"collect again with --python {here}, or set PYTHON"
        )
    for name, wheel in about["files"].items():
        if not (step / name).is_file() or sha256(step / name) != wheel["sha256"]:
            raise CarryError(f"{step / name} is missing or not what was collected: carry it again")


def _make(site: Path) -> None:
    linked = torch_closure()
    for name in BORROWED:
        try:
            linked[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = site.resolve() / "machine"
    for place in (site, site / INFINITY):
        venv.create(place, with_pip=False, symlinks=True)
        packages = _packages(place)
        # Behind the environment's own: what was carried comes first.
        paths = [machine, *([ROOT] if place == site else [])]
        (packages / "embedkit-gpu.pth").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    _link(linked.values(), machine)
    _tell_version(_packages(site))


def torch_closure() -> dict[str, importlib.metadata.Distribution]:
    """torch and, as far as it is installed, all that it asks for: normal name → distribution.

    Raises:
        CarryError: this interpreter has no torch.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = ["torch"]
    while waiting:
        name = normal(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        # Extras too: the CUDA libraries are some.
        waiting += [entry.group() for text in distribution.requires or () if (entry := _ENTRY.match(text))]
    if "torch" not in found:
        raise CarryError(f"{sys.executable} has no torch: set PYTHON to the interpreter that has")
    return {name: one for name, one in found.items() if wheels.WITH_TORCH.fullmatch(name) or name in _SMALL}


# Carried as well; linked in case an older torch asks for one that no longer is.
_SMALL = frozenset({"typing-extensions", "filelock", "fsspec"})


def _link(distributions: Iterable[importlib.metadata.Distribution], folder: Path) -> None:
    folder.mkdir()
    for one in distributions:
        for entry in sorted({file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}):
            source = Path(str(one.locate_file(entry)))
            if source.exists() and not (folder / entry).exists():
                (folder / entry).symlink_to(source)
    if not (folder / "torch").exists():
        raise CarryError(f"{sys.executable}: its torch does not say which files are its own (no RECORD)")


def _tell_version(packages: Path) -> None:
    """The kit itself, as an editable installation leaves it: its version is asked for when an archive is packed."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    about = packages / f"embedkit-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: embedkit\nVersion: {version}\n", encoding="utf-8")


def _packages(place: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)}))


def _installed(place: Path) -> dict[str, str]:
    """Normal name → version of all that an environment's interpreter would find, the first of each."""
    folders = [str(_packages(place)), str(place / "machine"), str(place.parent / "machine")]
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions(path=folders):
        found.setdefault(normal(one.name), one.version)
    return found
