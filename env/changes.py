"""Change pins where they stand: pyproject.toml and env/pins.toml, comments and layout kept."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from env.errors import PinError
from env.pins import PROJECT, REST, name_and_version, requirement_lists
from env.requirements import packages_of

# Name on the command line → table and key in env/pins.toml.
OTHERS = {
    "python": ("python", "version"),
    "jdk": ("jdk", "wanted"),
    "prometheus": ("tools", "prometheus"),
    "grafana": ("tools", "grafana"),
    "haproxy": ("tools", "haproxy"),
    "debian": ("container", "debian"),
}
TOGETHER = ("cpu", "cuda13")  # builds of one torch release


@dataclass(frozen=True)
class Change:
    """One pin to set. `flavour` is the torch build meant, where a package is pinned by extra; None: cpu and cuda13."""

    name: str
    version: str
    flavour: str | None = None

    @classmethod
    def parse(cls, text: str, flavour: str | None = None) -> "Change":
        """From NAME==VERSION.

        Raises:
            PinError: it is not that.
        """
        name, exact, version = text.partition("==")
        if not (name.strip() and exact and version.strip()):
            raise PinError(f"{text!r} names no pin: write NAME==VERSION, for example transformers==4.48.3")
        return cls(name.strip().lower(), version.strip(), flavour)


def _set_requirements(project: Any, change: Change) -> bool:
    """Whether pyproject.toml pins it; every place that does is changed."""
    found = False
    extras = (change.flavour,) if change.flavour else TOGETHER
    for extra, requirements in requirement_lists(project):
        if extra is not None and extra not in extras:
            continue
        for index, requirement in enumerate(requirements):
            name, version = name_and_version(str(requirement))
            if name == change.name:
                requirements[index] = str(requirement).replace(f"=={version}", f"=={change.version}")
                found = True
    return found


def _set_cpu_build(rest: Any, change: Change, sha256: str | None) -> None:
    if not sha256:
        raise PinError(
            f"the +cpu build of torch {change.version} is not on the package index: find its wheel for cp311 and "
            f"linux_x86_64 at {rest['torch']['cpu']['index']}, then name its hash with --sha256"
        )
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise PinError(f"--sha256 {sha256} is no SHA-256: write the wheel's 64 hexadecimal digits, in lower case")
    rest["torch"]["cpu"]["version"] = f"{change.version}+cpu"
    rest["torch"]["cpu"]["sha256"] = sha256


def apply(root: Path, changes: Iterable[Change], sha256: str | None = None) -> list[str]:
    """Write the changes into the two files; returns NAME==VERSION of those that only uv.lock pins.

    Args:
        sha256: of torch's +cpu wheel, where that build changes.

    Raises:
        PinError: there is no such pin, or a value that belongs to it is missing.
    """
    project = tomlkit.parse((root / PROJECT).read_text(encoding="utf-8"))
    rest = tomlkit.parse((root / REST).read_text(encoding="utf-8"))
    indirect = []
    for change in changes:
        if change.name in OTHERS:
            table, key = OTHERS[change.name]
            pinned: Any = rest
            pinned[table][key] = _as(pinned[table][key], change)
        elif change.name == "nixpkgs":
            raise PinError(
                f"{REST}: write branch, rev, narHash and lastModified of [nixpkgs] there, as `nix flake metadata "
                "github:NixOS/nixpkgs/BRANCH --json` gives them; then `embedkit env update` carries them"
            )
        elif _set_requirements(project, change):
            if change.name == "torch" and change.flavour in (None, "cpu"):
                _set_cpu_build(rest, change, sha256)
        else:
            indirect.append(_only_locked(root, change))
    (root / PROJECT).write_text(tomlkit.dumps(project), encoding="utf-8")
    (root / REST).write_text(tomlkit.dumps(rest), encoding="utf-8")
    return indirect


def _as(current: object, change: Change) -> str | int:
    if not isinstance(current, int):
        return change.version
    if not change.version.isdigit():
        raise PinError(f"{change.name}=={change.version}: a whole number belongs there, such as {current}")
    return int(change.version)


def _only_locked(root: Path, change: Change) -> str:
    locked = {
        name
        for file in sorted((root / "env" / "locks").glob("*.txt"))
        for name in packages_of(file.read_text(encoding="utf-8"))
    }
    if change.name not in locked:
        near = difflib.get_close_matches(change.name, {*locked, *OTHERS}, n=3)
        raise PinError(
            f"{change.name} is pinned nowhere"
            + (f": did you mean {', '.join(near)}?" if near else ".")
            + f" CUDA and drivers are edited in {REST}; then `embedkit env update` carries them"
        )
    return f"{change.name}=={change.version}"
