"""Limits of control groups, as cgroup v2 shows them in files."""

from pathlib import Path

import pytest

from env.cgroup import Limits, limits
from env.hardware import detect

GIB = 1 << 30


def group(folder: Path, cpu: str, memory: str, current: int = GIB, inactive: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(f"{cpu}\n")
    (folder / "memory.max").write_text(f"{memory}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own"
    file.write_text("0::/pod/container\n")
    return file


def test_the_narrowest_of_all_groups_above_counts(tmp_path: Path, own: Path) -> None:
    """A pod's limit holds for its containers too; memory in use counts, but for page cache that gives way."""
    mounted = tmp_path / "cgroup"
    group(mounted / "pod", "150000 100000", str(8 * GIB), current=6 * GIB, inactive=GIB)
    group(mounted / "pod" / "container", "max 100000", str(4 * GIB), current=GIB // 2)
    assert limits(mounted, own) == Limits(1.5, 3 * GIB)


def test_no_limit_is_none(tmp_path: Path, own: Path) -> None:
    """`max`, and files that a root group or a machine without cgroup v2 does not have, limit nothing."""
    mounted = tmp_path / "cgroup"
    assert limits(mounted, own) == Limits(None, None)
    group(mounted / "pod" / "container", "max 100000", "max")
    assert limits(mounted, own) == Limits(None, None)


def test_detection_keeps_to_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a core is one worker's, not none; memory is the smaller of what is left here and there."""
    monkeypatch.setattr("env.hardware.limits", lambda: Limits(0.5, 123 << 20))
    found = detect()
    assert (found.cores, found.memory_bytes) == (1, 123 << 20)
    monkeypatch.setattr("env.hardware.limits", lambda: Limits(10_000, 1 << 60))
    found = detect()
    assert found.cores < 10_000
    assert found.memory_bytes < 1 << 60
