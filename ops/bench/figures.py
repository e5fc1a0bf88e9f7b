"""Outcomes of requests → the figures that are reported. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ops.bench.client import Shot
from ops.bench.load import Load

REFUSED = "503"
# A closed loop of fewer texts a connection has no middle to speak of: all of it counts.
_ROUNDS = 4


@dataclass(frozen=True)
class Percentiles:
    """Seconds; every one of them was observed."""

    p50: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True)
class Figures:
    """One phase. `texts_per_s` counts texts that came back as vectors (goodput) over the phase's `seconds`, of a closed
    loop over the part of them in which all its connections were busy; `latency` is theirs alone, None where there were
    none. `late_p99_s` is how late the load generator itself was with 99 % of the requests, `client_cpu` the share of
    one core it took. `refusals` are 503s, `slowest_refusal_s` the longest wait for one; `examples` has the beginning of
    one answer of each HTTP status other than 200; `others` is the share of all cores that other work took meanwhile.
    """

    sent: int
    answered: int
    outcomes: Mapping[str, int]
    seconds: float
    texts_per_s: float
    latency: Percentiles | None
    late_p99_s: float
    client_cpu: float
    refusals: int
    slowest_refusal_s: float | None
    examples: Mapping[str, str]
    others: float = 0.0

    @property
    def errors(self) -> int:
        """What came neither back as a vector nor was refused."""
        return self.sent - self.answered - self.refusals


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share (0 to 1) of them does not exceed (nearest rank).

    Raises:
        ValueError: there are no values, or the share is none.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"the {share} quantile of {len(values)} values does not exist")
    rank = max(1, math.ceil(round(share * len(values), 9)))
    return sorted(values)[rank - 1]


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """p50, p95, p99 and the longest; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p95, p99 = (percentile(ordered, share) for share in (0.5, 0.95, 0.99))
    return Percentiles(p50, p95, p99, ordered[-1])


def figures(load: Load) -> Figures:
    """Count a phase."""
    good = [shot for shot in load.shots if shot.ok]
    refused = [shot.done - shot.intended for shot in load.shots if shot.outcome == REFUSED]
    late = [shot.fired - shot.intended for shot in load.shots]
    examples = {shot.outcome: shot.body[:200].decode(errors="replace") for shot in load.shots if shot.body}
    return Figures(
        sent=len(load.shots),
        answered=len(good),
        outcomes=dict(sorted(Counter(shot.outcome for shot in load.shots).items())),
        seconds=load.seconds,
        texts_per_s=_rate(load, good),
        latency=percentiles([shot.done - shot.intended for shot in good]),
        late_p99_s=percentile(late, 0.99) if late else 0.0,
        client_cpu=load.cpu_s / load.seconds if load.seconds else 0.0,
        refusals=len(refused),
        slowest_refusal_s=max(refused, default=None),
        examples=examples,
    )


def _rate(load: Load, good: Sequence[Shot]) -> float:
    """Vectors a second. A closed loop ends with fewer and fewer connections busy: with 128 of them that is the last
    twentieth of a phase of 2,500 texts, and says nothing of 128 connections. So it counts from when each has had an
    answer on average until the last text is sent.
    """
    if load.connections is not None:
        done = sorted(shot.done for shot in load.shots)
        end = max((shot.fired for shot in load.shots), default=0.0)
        if len(done) >= _ROUNDS * load.connections and done[load.connections - 1] < end:
            begin = done[load.connections - 1]
            return sum(begin < shot.done <= end for shot in good) / (end - begin)
    return len(good) / load.seconds if load.seconds else 0.0


def middle(values: Sequence[float]) -> float:
    """The median; 0 without values, for a phase in which nothing was answered."""
    return median(values) if values else 0.0
