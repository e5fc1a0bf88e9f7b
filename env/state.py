"""What an environment holds, in one shape for people, for `--json` files and for comparison."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version
from pydantic import TypeAdapter, ValidationError

from env.checks import probe_torch
from env.chooser import installed
from env.door import door
from env.errors import PinError
from env.jdk import JdkError, find_jdk
from env.pins import Pins
from env.requirements import installed_versions, packages_of

# What puts packages there, and the kit itself.
NOT_PINNED = frozenset({"pip", "embedkit"})


@dataclass(frozen=True)
class State:
    """An environment. `torch_cuda` is the CUDA release of the build, None for a CPU build; `lock` a flavour."""

    what: str
    door: str
    lock: str
    python: str
    jdk: str
    torch_cuda: str | None
    packages: Mapping[str, str]


def versions() -> dict[str, str]:
    """Package → version of all that is installed, spelled as locks do: "v0.0.21" is 0.0.21."""
    found = {name: str(Version(version)) for name, version in installed_versions().items()}
    return {name: found[name] for name in sorted(found) if name not in NOT_PINNED}


def running(root: Path) -> State:
    """The environment of this process."""
    try:
        jdk = find_jdk(os.environ).version
    except JdkError:
        jdk = "none"
    return State(
        what=f"{platform.node()}:{sys.prefix}",
        door=door(os.environ, Path(sys.prefix), root).name,
        lock=installed().flavour,
        python=platform.python_version(),
        jdk=jdk,
        torch_cuda=probe_torch()[1],
        packages=versions(),
    )


def pinned(root: Path, pins: Pins, flavour: str) -> State:
    """What the pins say an environment of this flavour holds. Python and the JDK are pinned by their release line."""
    lock = (root / "env" / "locks" / f"{flavour}.txt").read_text(encoding="utf-8")
    return State(
        what="the pins",
        door="any",
        lock=flavour,
        python=pins.python,
        jdk=pins.jdk,
        torch_cuda=None if flavour == "cpu" else pins.cuda(flavour),
        packages=packages_of(lock),
    )


def read(file: Path) -> State:
    """What `embedkit env show --json` wrote.

    Raises:
        PinError: the file cannot be read, or is something else.
    """
    try:
        return TypeAdapter(State).validate_json(file.read_bytes())
    except OSError as error:
        raise PinError(f"{file}: {error.strerror}") from error
    except ValidationError as error:
        raise PinError(f"{file} is not what `embedkit env show --json` writes: {error.errors()[0]['msg']}") from error
