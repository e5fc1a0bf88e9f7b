"""Wait until a version has nothing in flight: TorchServe drops what a removed version still works on."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ops.settings import Settings
from ops.telemetry import is_busy
from ops.torchserve.management import Loaded, Management

POLL_S = 0.1
# An answer has left its worker before it has reached the client, and a request is read before it is queued.
ON_THE_WAY_S = 1.0
# Beyond the time after which TorchServe itself gives up a batch.
ALLOWANCE_S = 30.0
MOMENT_S = 5.0


@dataclass(frozen=True)
class InFlight:
    """What a version has accepted and not answered: requests in its queue, workers with a batch, and workers that do
    not say whether they have one."""

    queued: int
    busy: int
    silent: int = 0

    @property
    def nothing(self) -> bool:
        return not (self.queued or self.busy or self.silent)

    def __str__(self) -> str:
        silent = f" and {self.silent} workers that do not tell" if self.silent else ""
        return f"{self.queued} queued requests, {self.busy} batches at work{silent}"


def in_flight(loaded: Loaded, busy: Callable[[int], bool | None]) -> InFlight:
    """What TorchServe says of the queue and the workers of their batches; `busy`: pid → see telemetry.is_busy."""
    told = [busy(worker.pid) for worker in loaded.workers if worker.ready]
    return InFlight(loaded.queue_pending, sum(one is True for one in told), sum(one is None for one in told))


class Quiet:
    """Whether nothing was in flight for `seconds` on end."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def see(self, found: InFlight, now: float) -> bool:
        """One look, at a time of one steady clock; returns whether it has been quiet for long enough."""
        if not found.nothing:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= self._seconds


def wait_until_quiet(
    settings: Settings,
    management: Management,
    model: str,
    version: str,
    *,
    limit_s: float | None,
    say: Callable[[str], None],
) -> InFlight:
    """Return once the version has nothing in flight, or when the limit has passed with what it still has.

    Args:
        limit_s: seconds; None takes the model's response timeout and half a minute.

    Raises:
        ManagementError: TorchServe does not answer.
    """
    started = time.monotonic()
    quiet: Quiet | None = None
    shown = ""
    while True:
        loaded = management.version(model, version)
        if loaded is None:
            return InFlight(0, 0)
        # A worker's batch is collected outside the queue.
        quiet = quiet or Quiet(loaded.max_batch_delay_s + ON_THE_WAY_S)
        limit = loaded.response_timeout_s + ALLOWANCE_S if limit_s is None else limit_s
        found = in_flight(loaded, lambda pid: is_busy(settings.telemetry, pid))
        now = time.monotonic()
        if quiet.see(found, now):
            return found
        # Requests that name the version never end: what comes after a moment without any is the least.
        if now - started > limit and (found.nothing or now - started > limit + MOMENT_S):
            return found
        if not found.nothing and not shown:
            shown = f"{model}: waiting for version {version} to finish: {found}"
            say(shown)
        time.sleep(POLL_S)
