"""From the versions that TorchServe has of a model to the next step towards one of them. Pure.

TorchServe knows a version by the name in its archive, and has no second name for one. An archive that takes the place
of another under the same name is therefore served under a name of its own first (the bridge), then under its own name.
Nothing but the server's state decides, so whoever comes next goes on wherever another was interrupted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ops.desired import Served
from ops.torchserve.management import Loaded


@dataclass(frozen=True)
class Register:
    """Load the archive beside what is there: under its own name, or as the bridge."""

    version: str
    bridge: bool


@dataclass(frozen=True)
class Verify:
    """Wait until the version answers rightly."""

    version: str


@dataclass(frozen=True)
class MakeDefault:
    """Let requests that name no version come to this one."""

    version: str


@dataclass(frozen=True)
class Remove:
    """Wait until the version has nothing in flight, then take it out of the server."""

    version: str


Step = Register | Verify | MakeDefault | Remove


def bridge_name(one: Served) -> str:
    """The version of an archive on its way to its own name.

    models.toml allows no dash in a version: it is nobody else's.
    """
    return f"{one.version}-{one.sha256[:12]}"


def next_step(target: Served, loaded: Sequence[Loaded], verified: Collection[str]) -> Step | None:
    """What to do next so that the target alone is served under its own name; None where it is so.

    Args:
        target: what is to be served.
        loaded: every version of the model in the server, the default one first.
        verified: versions of the target that have answered rightly.
    """
    bridge = bridge_name(target)
    ours = [one.version for one in loaded if one.version == bridge or one.archive == target.archive]
    default = loaded[0].version if loaded else None
    for one in loaded:
        if one.version not in ours and one.version != default:
            return Remove(one.version)
    home_is_taken = target.version == default and target.version not in ours
    candidate = bridge if home_is_taken else target.version
    if candidate not in ours:
        return Register(candidate, bridge=home_is_taken)
    if candidate not in verified:
        return Verify(candidate)
    if candidate != default:
        return MakeDefault(candidate)
    return next((Remove(version) for version in ours if version != candidate), None)
