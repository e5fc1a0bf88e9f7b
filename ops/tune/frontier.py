"""Trials → which of them nobody beats, and which to take. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from ops.tune.space import Candidate


@dataclass(frozen=True)
class Run:
    """One measurement of a candidate. `texts_per_s` is its ceiling, from the closed loop; the latencies, in seconds,
    are of Poisson arrivals at `rate` texts a second. `others` is the share of all cores that other work took.
    """

    texts_per_s: float
    rate: float
    p50_s: float
    p99_s: float
    sent: int
    checked: int
    min_cosine: float
    others: float
    seconds: float


@dataclass(frozen=True)
class Trial:
    """A candidate and what its runs came to; `reason` says why it is out, empty where it is not."""

    candidate: Candidate
    runs: tuple[Run, ...] = field(default=())
    reason: str = ""

    @property
    def measured(self) -> bool:
        return bool(self.runs) and not self.reason

    @property
    def texts_per_s(self) -> float:
        """The median over the runs."""
        return median(run.texts_per_s for run in self.runs)

    @property
    def p99_s(self) -> float:
        """The median over the runs."""
        return median(run.p99_s for run in self.runs)

    def meets(self, p99_s: float) -> bool:
        return self.measured and self.p99_s <= p99_s


def frontier(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that no other one beats in throughput without a longer p99, by rising throughput."""
    best: list[Trial] = []
    for one in sorted((each for each in trials if each.measured), key=lambda each: (-each.texts_per_s, each.p99_s)):
        if not best or one.p99_s < best[-1].p99_s:
            best.append(one)
    return best[::-1]


def choose(trials: Iterable[Trial], p99_s: float) -> Trial | None:
    """The highest throughput whose p99 meets the aim; None where none does."""
    meeting = [each for each in trials if each.meets(p99_s)]
    return max(meeting, key=lambda each: (each.texts_per_s, -each.p99_s), default=None)


def nearest(trials: Iterable[Trial]) -> Trial | None:
    """The shortest p99; None where nothing was measured."""
    return min((each for each in trials if each.measured), key=lambda each: each.p99_s, default=None)


def leaders(trials: Sequence[Trial], p99_s: float, count: int) -> list[Trial]:
    """The first `count` in the order in which one would choose them."""
    measured = [each for each in trials if each.measured]
    return sorted(measured, key=lambda each: rank(each, p99_s), reverse=True)[:count]


def rank(trial: Trial, p99_s: float) -> tuple[bool, float]:
    """Larger is better: those that meet the aim by throughput, before the others by p99."""
    return (True, trial.texts_per_s) if trial.meets(p99_s) else (False, -trial.p99_s)
