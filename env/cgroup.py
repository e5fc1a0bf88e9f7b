"""What the control group of this process leaves it (cgroup v2): in a container the machine's figures are not ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTED = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Limits:
    """`cores` is processor time in cores, `memory_bytes` what may still be taken; None where nothing limits it."""

    cores: float | None = None
    memory_bytes: int | None = None


def _groups(mounted: Path, own: Path) -> Iterator[Path]:
    """The folder of this process's group and those above it: each may limit."""
    for line in own.read_text(encoding="utf-8").splitlines():
        if line.startswith("0::/"):
            folder = mounted / line.removeprefix("0::/")
            yield from [folder, *(above for above in folder.parents if above.is_relative_to(mounted))]


def _cores(group: Path) -> float | None:
    quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
    return None if quota == "max" else int(quota) / int(period)


def _memory_left(group: Path) -> int | None:
    most = (group / "memory.max").read_text(encoding="ascii").strip()
    if most == "max":
        return None
    used = int((group / "memory.current").read_text(encoding="ascii"))
    stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    return max(0, int(most) - used + int(stat["inactive_file"]))  # the page cache gives way


def limits(mounted: Path = MOUNTED, own: Path = OWN) -> Limits:
    """The narrowest limits that hold for this process; none where there is no cgroup v2."""
    cores: list[float] = []
    memory: list[int] = []
    for group in _groups(mounted, own):
        if (group / "cpu.max").is_file() and (found := _cores(group)) is not None:
            cores.append(found)
        if (group / "memory.max").is_file() and (left := _memory_left(group)) is not None:
            memory.append(left)
    return Limits(min(cores, default=None), min(memory, default=None))
