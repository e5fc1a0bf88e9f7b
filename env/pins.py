"""The pins as one value: what pyproject.toml and env/pins.toml decide, and nothing that follows from them."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from env.errors import PinError

PROJECT = "pyproject.toml"
REST = "env/pins.toml"


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
        PinError: a file is missing, is no TOML, or a requirement is not exact.
    """
    project, rest = (_read(root, file) for file in (PROJECT, REST))
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


def _read(root: Path, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads((root / file).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PinError(f"{file}: {error}") from error
