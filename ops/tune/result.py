"""What a tuning comes to: plain data, all of which goes into the JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ops.bench.contention import QUIET
from ops.bench.machine import Machine
from ops.tune.frontier import Run, Trial, choose, frontier, nearest
from ops.tune.plan import Plan
from ops.tune.space import Candidate

Ended = Literal["finished", "candidates", "time", "interrupted"]
ENDED: Mapping[Ended, str] = {
    "finished": "no single step gained any more",
    "candidates": "--candidates ended the search",
    "time": "the time limit ended the search",
    "interrupted": "INTERRUPTED",
}


@dataclass(frozen=True)
class Row:
    """A candidate; `texts_per_s` and `p99_s` are the medians of its runs, None where `reason` says why it is out."""

    candidate: Candidate
    texts_per_s: float | None
    p99_s: float | None
    meets: bool
    frontier: bool
    chosen: bool
    current: bool
    reason: str
    runs: Sequence[Run]


@dataclass(frozen=True)
class Result:
    """A whole tuning. `current` is what models.toml means now; `chosen` the highest throughput whose p99 meets the aim,
    `nearest` the shortest p99 where none does. `changes` are the keys of models.toml that would have to change, and
    `written` whether they were; `others` is the largest share of the cores that other work took during a run.
    """

    headline: str
    model: str
    ended: Ended
    plan: Plan
    current: Candidate
    chosen: Candidate | None
    nearest: Candidate | None
    rows: Sequence[Row]
    changes: Mapping[str, int]
    written: bool
    requests: int
    others: float
    engine: str
    started_at: str
    seconds: float
    machine: Machine
    settings: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        return self.chosen is not None and self.ended != "interrupted"


def rows(trials: Sequence[Trial], current: Candidate, p99_s: float) -> list[Row]:
    """One a candidate, by falling throughput; those that are out come last."""
    best, chosen = frontier(trials), choose(trials, p99_s)
    made = [
        Row(
            candidate=one.candidate,
            texts_per_s=one.texts_per_s if one.measured else None,
            p99_s=one.p99_s if one.measured else None,
            meets=one.meets(p99_s),
            frontier=one in best,
            chosen=one is chosen,
            current=one.candidate == current,
            reason=one.reason,
            runs=one.runs,
        )
        for one in trials
    ]
    return sorted(made, key=lambda row: -(row.texts_per_s or 0.0))


def headline(
    model: str, trials: Sequence[Trial], current: Candidate, plan: Plan, *, ended: Ended, others: float
) -> str:
    """The choice in a line; what went wrong comes first."""
    chosen, aim = choose(trials, plan.p99_s), f"p99 {plan.p99_s * 1000:g} ms"
    parts = [] if ended == "finished" else [ENDED[ended]]
    if chosen is not None:
        parts.append(f"{chosen.candidate}: {_figures(chosen, plan)}, which meets {aim}")
        now = next((one for one in trials if one.candidate == current and one.measured), None)
        if now is chosen:
            parts.append("it is what models.toml has now")
        elif now is not None:
            missed = "" if now.meets(plan.p99_s) else f", whose p99 of {now.p99_s * 1000:.1f} ms misses it"
            parts.append(f"{chosen.texts_per_s / now.texts_per_s:.2f} times what models.toml has now{missed}")
    elif (near := nearest(trials)) is not None:
        parts.append(f"nothing that was tried meets {aim}; nearest is {near.candidate}: {_figures(near, plan)}")
    else:
        parts.append("nothing could be measured")
    if others > QUIET:
        parts.append(f"other work took up to {others:.0%} of the cores meanwhile: do not quote this")
    return f"{model}, {plan.profile} texts: {'; '.join(parts)}"


def _figures(one: Trial, plan: Plan) -> str:
    return (
        f"{one.texts_per_s:.0f} texts a second at most, p99 {one.p99_s * 1000:.1f} ms at {plan.load:.0%} of that "
        f"({len(one.runs)} run{'s' if len(one.runs) > 1 else ''})"
    )
