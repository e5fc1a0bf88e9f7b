"""Which of the kit's doors an environment was entered by. Standard library only: the set-up script asks it too."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MARK = "EMBEDKIT_DOOR"  # set by the nix shells, the container, and conda's activation of env/environment*.yml
Name = Literal["venv", "bundle", "conda", "nix", "container", "none"]


@dataclass(frozen=True)
class Door:
    """The door's name and a sentence on what came through it."""

    name: Name
    detail: str


def in_conda(environ: Mapping[str, str], prefix: Path) -> bool:
    """Whether `prefix`, of the running Python, is the activated conda environment of env/environment*.yml."""
    active = environ.get("CONDA_PREFIX")
    return environ.get(MARK) == "conda" and active is not None and Path(active).resolve() == prefix.resolve()


def door(environ: Mapping[str, str], prefix: Path, root: Path) -> Door:
    """The door by which this Python was entered: what marks it, where Python runs from where that door puts packages.

    Args:
        prefix: of the running Python.
        root: the checkout.
    """
    if in_conda(environ, prefix):
        return Door("conda", f"the conda environment {environ.get('CONDA_DEFAULT_ENV') or prefix}")
    if prefix.resolve() == (root / ".venv").resolve():
        return _in_venv(environ, prefix, root)
    if environ.get("CONDA_PREFIX") and Path(environ["CONDA_PREFIX"]).resolve() == prefix.resolve():
        return Door("none", f"{prefix} is a conda environment that env/environment.yml did not make")
    return Door("none", f"{prefix} was entered by none of the kit's doors: nix develop, conda, make up, the container")


def _in_venv(environ: Mapping[str, str], prefix: Path, root: Path) -> Door:
    """Who made the checkout's own .venv."""
    if environ.get(MARK) == "container":
        return Door("container", "the container's image")
    if environ.get(MARK) == "nix":
        return Door("nix", f"nix develop, Python packages in {prefix}")
    if (root / "env" / "wheels").is_dir():
        return Door("bundle", f"a bundle's wheels in {prefix}")
    beside = " inside a nix shell of another flake" if environ.get("IN_NIX_SHELL") else ""
    return Door("venv", f"pip's hashed lock in {prefix}{beside}")
