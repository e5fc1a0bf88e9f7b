"""How much of the machine others took while something was measured: a figure from a shared machine says little."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from ops.settings import Settings
from ops.torchserve.leftovers import our_processes, programs

# Beyond this share of the cores, what else ran is part of the result.
QUIET = 0.05


@dataclass
class Seen:
    """`others`: the share of all cores that neither the service nor this benchmark used, known when the watch ends."""

    others: float = 0.0


class Contention:
    """Watches one deployment's machine."""

    def __init__(self, settings: Settings, cores: int) -> None:
        self._settings = settings
        self._cores = cores

    @contextlib.contextmanager
    def watch(self) -> Iterator[Seen]:
        """Over the block; reading costs some milliseconds before and after it."""
        seen = Seen()
        started, busy, mine = time.monotonic(), _busy(), self._mine()
        try:
            yield seen
        finally:
            others = (_busy() - busy) - (self._mine() - mine)
            elapsed = time.monotonic() - started
            # Clock ticks are counted in hundredths of a second: a short phase may come out below 0.
            seen.others = min(1.0, max(0.0, others / (elapsed * self._cores)))

    def _mine(self) -> float:
        this = psutil.Process()
        return sum(
            map(
                _seconds,
                [this, *this.children(recursive=True), *our_processes(self._settings), *programs(self._settings)],
            )
        )


def _busy() -> float:
    """Core-seconds since the machine started, those included that a hypervisor gave to somebody else."""
    now = psutil.cpu_times()
    return float(now.user + now.nice + now.system + now.irq + now.softirq + now.steal)


def _seconds(process: psutil.Process) -> float:
    try:
        taken = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(taken.user + taken.system)
