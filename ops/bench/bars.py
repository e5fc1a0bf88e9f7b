"""What the kit promises of its speed, as ratios within one run. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from ops.bench.result import PeerPoint

# (backend, dtype) → least efficiency against the bound of the same backend, by profile.
EFFICIENCY: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("torch", "float32"): {"short": 0.90, "mixed": 0.95},
    ("torch", "bfloat16"): {"short": 0.85, "mixed": 0.95},
    ("openvino", "bfloat16"): {"short": 0.80, "mixed": 0.95},
}
# Median latency of one connection, the batch delay taken off, over embedding the text alone.
ONE_CONNECTION = 1.15
REFUSED_WITHIN_S = 1.0
# What is accepted may wait for a full queue and the batches in work; this much more is noise.
QUEUE_ROOM = 1.25
# `auto` over the best peer in its best setting; and torch over infinity, which is torch too, both in float32.
PEERS: Mapping[str, float] = {"short": 2.8, "mixed": 4.0}
LIKE: Mapping[str, float] = {"short": 1.5, "mixed": 2.5}
LIKE_PEER, LIKE_DTYPE = "infinity", "float32"
MEMORY_GROWTH, MEMORY_REQUESTS = 0.02, 100_000


@dataclass(frozen=True)
class Bar:
    """A promise and what was found; `better` is the direction."""

    what: str
    found: float
    limit: float
    better: Literal["higher", "lower"]
    met: bool


class _Card(Protocol):
    @property
    def backend(self) -> str: ...
    @property
    def dtype(self) -> str: ...


def at_least(what: str, found: float, limit: float) -> Bar:
    return Bar(what, found, limit, "higher", found >= limit)


def at_most(what: str, found: float, limit: float) -> Bar:
    return Bar(what, found, limit, "lower", found <= limit)


def efficiency(card: _Card, profile: str, found: float) -> list[Bar]:
    """Served over the bound; nothing is promised for other backends and texts."""
    limit = EFFICIENCY.get((card.backend, card.dtype), {}).get(profile)
    return [] if limit is None else [at_least(f"{profile}: served over the in-process bound", found, limit)]


def one_connection(profile: str, ratio_less_delay: float | None) -> list[Bar]:
    if ratio_less_delay is None:
        return []
    what = f"{profile}: median latency of one connection less the batch delay, over embedding alone"
    return [at_most(what, ratio_less_delay, ONE_CONNECTION)]


def overload(
    profile: str, *, lost_workers: int, slowest_refusal_s: float | None, p99_s: float | None, full_queue_s: float
) -> list[Bar]:
    """Under more than can be served."""
    bars = [at_most(f"{profile}: workers lost at 120 %", lost_workers, 0)]
    if slowest_refusal_s is not None:
        bars.append(at_most(f"{profile}: slowest refusal at 120 %, seconds", slowest_refusal_s, REFUSED_WITHIN_S))
    if p99_s is not None:
        what = f"{profile}: p99 of what is accepted at 120 %, seconds, against a full queue"
        bars.append(at_most(what, p99_s, QUEUE_ROOM * full_queue_s))
    return bars


def memory(growth: float | None, requests: int) -> list[Bar]:
    if growth is None or requests < MEMORY_REQUESTS:
        return []
    return [
        at_most("growth of the workers' memory after the first 5,000 requests and the warm-ups", growth, MEMORY_GROWTH)
    ]


def peers(card: _Card, profile: str, points: Sequence["PeerPoint"]) -> list[Bar]:
    """Against those of the peers' `points` of this profile that answered: torch in float32 against the peer that
    computes with it too, everything else against the best. The smallest ratio is the one to the best setting.
    """
    alike = (card.backend, card.dtype) == ("torch", LIKE_DTYPE)
    limits, than = (LIKE, f"{LIKE_PEER}'s, both in {LIKE_DTYPE}") if alike else (PEERS, "the best peer's")
    ratios = [
        point.ratio
        for point in points
        if point.profile == profile and point.figures.answered
        if not alike or (point.peer, point.dtype) == (LIKE_PEER, LIKE_DTYPE)
    ]
    if not ratios or profile not in limits:
        return []
    return [at_least(f"{profile}: texts a second over {than}", min(ratios), limits[profile])]
