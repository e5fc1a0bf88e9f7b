"""A worker gives back what a large batch has taken, under the allocator's settings that workers have."""

import os
import subprocess
import sys

from ops.allocator import MALLOC

MB = 1 << 20
SCRIPT = """
import ctypes, os
from handlers.memory import Trimmer

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

trimmer, found = Trimmer(), []
for size in (1000, 1 << 30, 1000, 1000):  # batches: their memory is freed after each, as a caller frees its bodies
    trimmer.after(size)
    found.append(resident())
    bodies = [b"x" * (1 << 20) for _ in range(200)]
    found.append(resident())
    del bodies
print(*found)
"""


def test_memory_comes_back_after_a_large_batch_and_after_the_next() -> None:
    """After a large batch, and after the next, when the large one's bodies are free; else it is kept for reuse."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, **MALLOC}, capture_output=True, text=True, check=True
    )
    bare, first, large, second, following, third, later, _ = map(int, done.stdout.split())
    assert min(first, second, third) > bare + 190
    assert large < bare + 50
    assert following < bare + 50
    assert later > bare + 190
