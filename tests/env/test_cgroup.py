"""Limits of control groups, v1 and v2: as files show them, and as a real group has them."""

from pathlib import Path

import orjson
import pytest

from env.cgroup import Limits, Memory, limits
from env.hardware import cpus, detect, memory
from tests.env.control_groups import control_groups

GIB = 1 << 30
# mountinfo as the kernel writes it: V1 captured on a Linux 6.18 with both, but for {root}, which a container has.
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
V1 = (
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)


def process(root: Path, mounts: str, own: str) -> None:
    """What the kernel says of this process."""
    folder = root / "proc" / "self"
    folder.mkdir(parents=True)
    (folder / "mountinfo").write_text("22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n" + mounts)
    (folder / "cgroup").write_text(own)


def files(folder: Path, **contents: object) -> None:
    """The files of a group; a name's first underscore stands for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")


def v2(folder: Path, cpu: str, most: int | str, used: int = GIB, cache: int = 0) -> None:
    stat = f"anon 5\ninactive_file {cache}"
    files(folder, cpu_max=cpu, memory_max=most, memory_current=used, memory_stat=stat)


def v1_memory(folder: Path, most: int, used: int, cache: int = 0) -> None:
    stat = f"inactive_file 7\ntotal_inactive_file {cache}"
    files(folder, memory_limit_in_bytes=most, memory_usage_in_bytes=used, memory_stat=stat)


def test_the_narrowest_of_all_groups_above_counts(tmp_path: Path) -> None:
    """A pod's limit holds for its containers too; memory in use counts, but for page cache that gives way."""
    process(tmp_path, V2, "0::/pod/container\n")
    top = tmp_path / "sys/fs/cgroup"
    v2(top / "pod", "150000 100000", 8 * GIB, used=6 * GIB, cache=GIB)
    v2(top / "pod" / "container", "max 100000", 4 * GIB, used=GIB // 2)
    assert limits(tmp_path) == Limits(1.5, Memory(8 * GIB, 3 * GIB))
    v2(top / "pod" / "container", "50000 100000", 4 * GIB, used=2 * GIB)
    assert limits(tmp_path) == Limits(0.5, Memory(4 * GIB, 2 * GIB))


@pytest.mark.parametrize(
    ("root", "own", "folder"),
    [("/", "/docker/abc", "docker/abc"), ("/docker/abc", "/docker/abc", "."), ("/", "/../elsewhere", ".")],
)
def test_v1_is_read_too(tmp_path: Path, root: str, own: str, folder: str) -> None:
    """Each controller in a hierarchy of its own, beside an empty v2; a container may see its own group as the root."""
    process(tmp_path, V1.format(root=root), f"4:memory:{own}\n1:cpu,cpuacct:{own}\n0::/\n")
    top = tmp_path / "sys/fs/cgroup"
    v1_memory(top / "memory", 9223372036854771712, 50 * GIB)
    v1_memory(top / "memory" / folder, 2 * GIB, GIB, cache=GIB // 4)
    files(top / "cpu,cpuacct" / folder, cpu_cfs_quota_us=250000, cpu_cfs_period_us=100000)
    (top / "unified").mkdir()
    assert limits(tmp_path) == Limits(2.5, Memory(2 * GIB, GIB + GIB // 4))


def test_no_limit_is_none(tmp_path: Path) -> None:
    """`max`, v1's largest number, -1, folders without files and a kernel without control groups limit nothing."""
    assert limits(tmp_path) == Limits(None, None)
    process(tmp_path, V2 + V1.format(root="/"), "4:memory:/a\n1:cpu,cpuacct:/a\n0::/a\n")
    assert limits(tmp_path) == Limits(None, None)
    top = tmp_path / "sys/fs/cgroup"
    v2(top / "a", "max 100000", "max")
    v1_memory(top / "memory" / "a", 9223372036854771712, GIB)
    files(top / "cpu,cpuacct" / "a", cpu_cfs_quota_us=-1, cpu_cfs_period_us=100000)
    assert limits(tmp_path) == Limits(None, None)


def test_detection_keeps_to_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a core is one worker's, not none; memory is the smaller of what is left here and there."""
    monkeypatch.setattr("env.hardware.limits", lambda: Limits(0.5, Memory(GIB, 123 << 20)))
    assert (cpus(), memory()) == (0.5, Memory(GIB, 123 << 20))
    assert (detect().cores, detect().memory_bytes) == (1, 123 << 20)
    monkeypatch.setattr("env.hardware.limits", lambda: Limits(10_000, Memory(1 << 60, 1 << 60)))
    assert cpus() < 10_000
    assert memory().total < 1 << 60


def test_a_real_group_rules() -> None:
    """In a kernel's own group with a limit above it, what a process takes is gone from there, and the quota is seen."""
    code = (
        "taken = b'x' * (300 << 20)\n"
        "import orjson, sys; from env.hardware import cpus, memory\n"
        "sys.stdout.buffer.write(orjson.dumps([cpus(), vars(memory())]))"
    )
    with control_groups() as groups:
        groups.limit(memory=GIB, cores=0.5)
        cores, seen = orjson.loads(groups.run(code))
        assert cores == 0.5
        assert seen["total"] == GIB
        assert 100 << 20 < seen["available"] < GIB - (300 << 20)
