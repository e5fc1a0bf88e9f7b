"""A real control group of the test's own, with one inside it, where this machine lets us make them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

TOP = Path("/sys/fs/cgroup")


class Groups:
    """An outer group that limits and an inner one that does not, in which `run` runs."""

    def __init__(self, folders: list[Path], *, v2: bool) -> None:
        self._folders, self._v2 = folders, v2

    def limit(self, *, memory: int, cores: float) -> None:
        """To the outer group; memory in bytes."""
        for folder in self._folders:
            names = ("memory.max", "cpu.max") if self._v2 else ("memory.limit_in_bytes", "cpu.cfs_quota_us")
            cpu = f"{int(cores * 100_000)} 100000" if self._v2 else str(int(cores * 100_000))
            for name, value in zip(names, (str(memory), cpu), strict=True):
                if (folder / name).exists():
                    (folder / name).write_text(value)

    def run(self, code: str) -> str:
        """What a Python in the inner group prints."""

        def join() -> None:
            for folder in self._folders:
                (folder / "inner" / "cgroup.procs").write_text(str(os.getpid()))

        command = [sys.executable, "-c", code]
        return subprocess.run(command, preexec_fn=join, capture_output=True, text=True, check=True).stdout


@contextmanager
def control_groups() -> Iterator[Groups]:
    """Made when this begins, removed when it ends; skips where this user or kernel cannot make them."""
    v2 = (TOP / "cgroup.controllers").exists()
    name = f"embedkit-test-{os.getpid()}"
    folders = [TOP / name] if v2 else [TOP / controller / name for controller in ("memory", "cpu")]
    if os.getuid() or not all(os.access(folder.parent, os.W_OK) for folder in folders):
        pytest.skip("control groups can be made by root alone, where /sys/fs/cgroup is writable")
    with ExitStack() as made:
        for folder in folders:
            for one in (folder, folder / "inner"):
                one.mkdir()
                made.callback(one.rmdir)
            if v2:
                (folder / "cgroup.subtree_control").write_text("+cpu +memory")
        yield Groups(folders, v2=v2)
