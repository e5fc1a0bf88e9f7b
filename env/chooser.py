"""Choose the lock for this machine. Standard library only: this runs before there is an environment."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from env.errors import PinError
from env.pins import read_rest

ENV_DIR = Path(__file__).resolve().parent
STAMP = ".embedkit-lock"  # in an environment: the flavour and a digest of what it was made from
ASKED = ".embedkit-torch"  # in an environment: what TORCH said when it was last set up
FLAVOURS = ("cpu", "cuda12", "cuda13")  # each needs a newer driver than those before


class ChoiceError(PinError):
    """TORCH names no lock."""


@dataclass(frozen=True)
class Choice:
    """A lock and the sentence that says why it was taken; `deliberate` where a person's TORCH names it."""

    flavour: str
    reason: str
    deliberate: bool = False

    @property
    def lock(self) -> Path:
        return lock_path(self.flavour)


def lock_path(flavour: str) -> Path:
    """The hashed lock of one flavour, or of the development tools (`dev`)."""
    return ENV_DIR / "locks" / f"{flavour}.txt"


def load_pins() -> dict[str, Any]:
    """env/pins.toml of this checkout.

    Raises:
        PinError: see read_rest.
    """
    return read_rest(ENV_DIR.parent)


def driver_version(proc: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """The NVIDIA kernel driver's version, such as "580.65.06"; None where there is no driver."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", proc.read_text(encoding="utf-8"))
        if found:
            return found.group(1)
    except OSError:
        pass
    try:  # in a container /proc may show nothing while nvidia-smi is mounted
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"\s*(\d+\.\d+(?:\.\d+)?)", asked.stdout)
    return found.group(1) if found else None


def choose(driver: str | None, override: str | None, pins: Mapping[str, Any]) -> Choice:
    """The lock for a machine with this driver.

    Raises:
        ChoiceError: `override` is not one of FLAVOURS.
    """
    seen = f"NVIDIA driver {driver}" if driver else "no NVIDIA driver"
    if override:
        if override not in FLAVOURS:
            raise ChoiceError(f"TORCH={override!r} names no lock: use one of {', '.join(FLAVOURS)}")
        return Choice(override, f"TORCH={override} says so ({seen} found)", deliberate=True)
    if driver is None:
        return Choice("cpu", f"{seen} found")
    branch = int(driver.split(".")[0])
    for flavour in ("cuda13", "cuda12"):
        oldest = pins["torch"][flavour]["driver"]
        if branch >= oldest:
            return Choice(flavour, f"{seen} found, {flavour} needs {oldest} or newer")
    return Choice("cpu", f"{seen} found, too old for any CUDA build here (cuda12 needs {oldest}): update it")


def chosen() -> Choice:
    """The lock for this machine, as every door chooses it: by the driver, or by TORCH in the environment."""
    return choose(driver_version(), os.environ.get("TORCH") or None, load_pins())


def _first_word(file: Path) -> str:
    try:
        return (file.read_text(encoding="utf-8").split() or [""])[0]
    except (OSError, UnicodeDecodeError):
        return ""


def installed() -> Choice:
    """The lock that this interpreter's environment was made from, as its set-up stamped it; else the one to choose.

    Raises:
        ChoiceError: see choose.
    """
    flavour = _first_word(Path(sys.prefix) / STAMP)
    if flavour not in FLAVOURS:
        return chosen()
    asked = {_first_word(Path(sys.prefix) / ASKED), os.environ.get("TORCH")}
    return Choice(flavour, "the environment was made from it", deliberate=flavour in asked)


if __name__ == "__main__":
    choice = chosen()
    print(f"{choice.flavour}\t{choice.reason}")
