"""The pins as one value: what pyproject.toml and env/pins.toml decide, and nothing that follows from them."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from env.errors import PinError

PROJECT = "pyproject.toml"
REST = "env/pins.toml"
# What REST has to hold.
KEYS: Mapping[str, type] = {
    "python.version": str,
    "jdk.wanted": int,
    "jdk.accepted": list,
    **{f"torch.cpu.{key}": str for key in ("version", "sha256", "index")},
    **{f"torch.{flavour}.cuda": str for flavour in ("cuda12", "cuda13")},
    **{f"torch.{flavour}.driver": int for flavour in ("cuda12", "cuda13")},
    **{f"tools.{name}": str for name in ("prometheus", "grafana", "haproxy")},
    "container.debian": str,
    **{f"nixpkgs.{key}": str for key in ("branch", "rev", "narHash")},
    "nixpkgs.lastModified": int,
}


@dataclass(frozen=True)
class Pins:
    """`packages` are the exact pins of pyproject.toml outside extras, `torch` is by flavour, with the +cpu build."""

    packages: Mapping[str, str]
    torch: Mapping[str, str]
    rest: Mapping[str, Any]

    @property
    def python(self) -> str:
        return str(self.rest["python"]["version"])

    @property
    def jdk(self) -> str:
        return str(self.rest["jdk"]["wanted"])

    @property
    def other_jdks(self) -> list[str]:
        """Releases that are accepted beside the one that is wanted."""
        return [str(each) for each in self.rest["jdk"]["accepted"] if str(each) != self.jdk]

    def cuda(self, flavour: str) -> str:
        return str(self.rest["torch"][flavour]["cuda"])

    def driver(self, flavour: str) -> str:
        return str(self.rest["torch"][flavour]["driver"])


def name_and_version(requirement: str) -> tuple[str, str]:
    """An exact requirement's name, without extras, and version.

    Raises:
        PinError: it is not exact.
    """
    name, exact, version = requirement.partition("==")
    if not exact:
        raise PinError(f"{PROJECT}: {requirement!r} is not pinned: write {name}==VERSION")
    return name.partition("[")[0].strip(), version.strip()


def requirement_lists(project: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
    """(extra or None, list of requirements) of everything that pyproject.toml pins."""
    yield None, project["build-system"]["requires"]
    yield None, project["project"]["dependencies"]
    for group in project["dependency-groups"].values():
        yield None, group
    yield from project["project"]["optional-dependencies"].items()


def read_pins(root: Path) -> Pins:
    """The pins of the checkout at `root`.

    Raises:
        PinError: a file is missing or is no TOML, a requirement is not exact, or see read_rest.
    """
    project, rest = _read(root, PROJECT), read_rest(root)
    packages: dict[str, str] = {}
    torch: dict[str, str] = {}
    for extra, requirements in requirement_lists(project):
        exact = dict(name_and_version(each) for each in requirements)
        if extra is None:
            packages |= exact
        else:
            torch[extra] = exact["torch"]
    torch["cpu"] = rest["torch"]["cpu"]["version"]
    return Pins(packages, torch, rest)


def read_rest(root: Path) -> dict[str, Any]:
    """env/pins.toml of the checkout at `root`.

    Raises:
        PinError: it is missing or no TOML, or a pin of KEYS is missing or of another type.
    """
    rest = _read(root, REST)
    for key, kind in KEYS.items():
        value: Any = rest
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            found = "is missing" if value is None else f"is {value!r}"
            raise PinError(f"{REST}: {key} {found}: write one of type {kind.__name__} there")
    return rest


def _read(root: Path, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads((root / file).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PinError(f"{file}: {error}") from error
