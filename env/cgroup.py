"""What the control groups of this process leave it, v1 and v2: in a container the machine's figures are not ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNLIMITED = 1 << 62  # v1 writes the largest number of whole pages


@dataclass(frozen=True)
class Memory:
    """What somebody has in all, and how much of it may still be taken, in bytes."""

    total: int
    available: int


@dataclass(frozen=True)
class Limits:
    """`cores` is processor time in cores, `memory` that of the group with the least left; None where nothing limits."""

    cores: float | None = None
    memory: Memory | None = None


def _number(file: Path) -> int | None:
    """None where the group has no such file, or no limit in it."""
    if not file.is_file():
        return None
    text = file.read_text(encoding="ascii").strip()
    return None if text in {"max", "-1"} or int(text) >= UNLIMITED else int(text)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folder of this process's group in each hierarchy that may have the controller, and of those above it."""
    if not (root / "proc/self/cgroup").is_file():
        return  # a kernel without them
    own: dict[str, str] = {}  # controller → path of the group; "" is v2's
    for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, names, path = line.split(":", 2)
        own |= dict.fromkeys(names.split(","), path)
    for line in (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if kind != "cgroup2" and not (kind == "cgroup" and controller in options.split(",")):
            continue
        shown, mounted = mount.split(" ")[3:5]
        top, group = root / mounted.lstrip("/"), Path(own.get("" if kind == "cgroup2" else controller, "/"))
        # A container may see no more than its own group, mounted as if it were the root.
        folder = top / group.relative_to(shown) if group.is_relative_to(shown) else top
        yield from (above for above in (folder, *folder.parents) if above.is_relative_to(top))


def _cores(group: Path) -> float | None:
    if (group / "cpu.max").is_file():
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    quota_us, period_us = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return None if quota_us is None or period_us is None else quota_us / period_us


def _memory(group: Path) -> Memory | None:
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None:
            stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
            working_set = used - int(stat.get(cache, 0))  # the page cache gives way
            return Memory(most, max(0, most - working_set))
    return None


def limits(root: Path = Path("/")) -> Limits:
    """The narrowest limits that hold for this process; none where there are no control groups. `root` holds /proc."""
    cores = [one for group in _groups("cpu", root) if (one := _cores(group)) is not None]
    memory = [found for group in _groups("memory", root) if (found := _memory(group)) is not None]
    return Limits(min(cores, default=None), min(memory, key=lambda one: one.available, default=None))
