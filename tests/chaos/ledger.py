"""What the clients saw, and what of it a fault has cost them. Times are monotonic seconds."""

from collections.abc import Iterable
from dataclasses import dataclass

# Told at once that nobody takes the request: no connection, a 503 or 429, or a 404 from a server that has lost the
# model. Sending it again is safe.
REFUSALS = frozenset({"refused", "503", "429", "404"})
RIGHT = "200"


@dataclass(frozen=True, slots=True)
class Entry:
    """One request: when it was sent and done, and its outcome as `ops.bench.client.Shot` has it."""

    sent: float
    done: float
    outcome: str

    @property
    def right(self) -> bool:
        return self.outcome == RIGHT

    @property
    def refused(self) -> bool:
        return self.outcome in REFUSALS


@dataclass(frozen=True)
class Toll:
    """Requests around a fault. `open_then` were being answered when it struck; of these `open_failed` got no vector.

    Of those sent later, `refused` were turned away and `lost` got anything else than a vector. `trouble_s` lies between
    the fault and the last failure of any kind, 0 where there was none.
    """

    sent: int
    open_then: int
    open_failed: int
    refused: int
    lost: int
    trouble_s: float

    @property
    def failed(self) -> int:
        return self.open_failed + self.refused + self.lost


def toll(entries: Iterable[Entry], at: float) -> Toll:
    """What a fault at `at` has cost."""
    since = [one for one in entries if one.done >= at]
    open_then = [one for one in since if one.sent <= at]
    later = [one for one in since if one.sent > at]
    failures = [one for one in since if not one.right]
    return Toll(
        sent=len(since),
        open_then=len(open_then),
        open_failed=sum(not one.right for one in open_then),
        refused=sum(one.refused for one in later),
        lost=sum(not one.right and not one.refused for one in later),
        trouble_s=max((one.done for one in failures), default=at) - at,
    )


def growth(samples: Iterable[tuple[float, float]]) -> float:
    """The share by which the least-squares line through (x, y) rises from its first x to its last; 0 of under two."""
    points = list(samples)
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    first, last = points[0][0], points[-1][0]
    start = mean_y + slope * (first - mean_x)
    return slope * (last - first) / start
