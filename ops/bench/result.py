"""What a benchmark comes to: plain data, all of which goes into the JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ops.bench.bars import Bar
from ops.bench.bound import Bound, Timing
from ops.bench.figures import Figures, Percentiles
from ops.bench.latency1 import Latency1
from ops.bench.machine import Machine
from ops.bench.options import Options
from ops.bench.stages import Stages
from ops.bench.truth import Truth


@dataclass(frozen=True)
class ClosedPoint:
    """One number of connections: `runs` a repeat, `texts_per_s` their median."""

    connections: int
    texts_per_s: float
    runs: list[Figures]


@dataclass(frozen=True)
class OpenPoint:
    """Poisson arrivals at `rate` texts a second, `fraction` of the ceiling."""

    fraction: float
    rate: float
    figures: Figures


@dataclass(frozen=True)
class Overload:
    """More than can be served. `full_queue_s` is how long a full queue takes at its pace: what is accepted may wait
    about that long. `lost_workers` are pids that were gone afterwards; `answers_after` whether a known text still
    gets its right vector then.
    """

    point: OpenPoint
    full_queue_s: float
    lost_workers: list[int]
    answers_after: bool


@dataclass(frozen=True)
class ProfileResult:
    """One kind of text. `tokens` describes their lengths; `efficiency` is the median over the repeats of texts served a
    second (at the most connections) over the bound of the same texts in that repeat; `ceiling` the best of the closed
    loop, in texts a second.
    """

    profile: str
    meaning: str
    tokens: Percentiles
    closed: list[ClosedPoint]
    bound: Bound
    timings: list[list[Timing]]
    efficiency: float
    efficiencies: list[float]
    ceiling: float
    tokens_per_s: float
    open: list[OpenPoint]
    overload: Overload
    latency1: Latency1
    stages: Stages


@dataclass(frozen=True)
class MemoryPoint:
    """Resident bytes of all workers once so many requests had been sent."""

    requests: int
    resident: int


@dataclass(frozen=True)
class PeerPoint:
    """Another server on the same texts in the same run: `served` is this kit's texts a second on them, `ratio` that
    over the other's, 0 where the other answered nothing.
    """

    peer: str
    profile: str
    connections: int
    setting: str
    dtype: str
    figures: Figures
    served: float
    ratio: float


@dataclass(frozen=True)
class Result:
    """A whole benchmark. `errors` counts what should have been answered and was not, `refused` what was turned away at
    or above the ceiling; `others` is the largest share of the cores that other work took during a closed loop or bound;
    `memory_growth` is of the workers between the end of all warm-ups, or 5,000 requests if that is later, and the end,
    None for a shorter run.
    """

    headline: str
    errors: int
    refused: int
    others: float
    requests: int
    started_at: str
    seconds: float
    options: Options
    machine: Machine
    service: Mapping[str, Any]
    settings: Mapping[str, Any]
    profiles: list[ProfileResult]
    truth: Truth
    memory: list[MemoryPoint]
    memory_growth: float | None
    peers: list[PeerPoint]
    peers_failed: Mapping[str, str]
    bars: list[Bar]

    @property
    def ok(self) -> bool:
        """Whether every text that should have been answered was, as far as was looked, rightly."""
        return not self.errors and not self.truth.wrong
