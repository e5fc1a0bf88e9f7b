"""How long a test waits: what it says is for a quiet machine, where TorchServe starts in `PLAIN_START_S`; where that
was seen to take longer, it waits longer in proportion. A wait that ends early stays early.

Bars (what docs/chaos.md promises, what a docstring claims) are not waits, and do not move.
"""

import time
from collections.abc import Sequence
from typing import Final

import psutil

# From the start of the JVM to minilm's first right vector, on two cores.
PLAIN_START_S: Final = 9.0
_slowest_s = PLAIN_START_S


def measure(servers: Sequence[psutil.Process], within_s: float) -> None:
    """Take note that TorchServe has come to serve just now, if there is one and it started within the last seconds."""
    global _slowest_s  # noqa: PLW0603 - it is the machine's, and there is one
    if len(servers) != 1:
        return
    since_boot = servers[0].create_time() - psutil.boot_time()  # either alone is off by part of a second
    took = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot
    if took <= within_s:
        _slowest_s = max(_slowest_s, took)


def scaled(seconds: float) -> float:
    """These seconds of a quiet machine, as seconds of this one."""
    return seconds * _slowest_s / PLAIN_START_S
