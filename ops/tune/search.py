"""What to try next: coordinate descent from what models.toml says, then the leaders again. Pure.

One dimension after the other is climbed from the best so far: a rung up, further while it pays, else a rung down. A
round in which nothing was gained ends it. Both functions replay what was found, so they need no state of their own.
"""

from collections.abc import Mapping, Sequence

from ops.tune.frontier import Trial, leaders
from ops.tune.space import Candidate, Dimension

# What two runs of one setting differ by on a quiet machine; less is not taken for a gain. A p99 rests on a few texts.
MARGIN, P99_MARGIN = 0.02, 0.1
LEADERS = 3
RUNS = 3

Done = Mapping[Candidate, Trial]


def better(one: Trial, than: Trial, p99_s: float) -> bool:
    """Whether a trial beats another by more than noise."""
    if not one.measured or not than.measured:
        return one.measured
    if one.meets(p99_s) != than.meets(p99_s):
        return one.meets(p99_s)
    if one.meets(p99_s):
        return one.texts_per_s > than.texts_per_s * (1 + MARGIN)
    return one.p99_s < than.p99_s * (1 - P99_MARGIN)


def propose(start: Candidate, dimensions: Sequence[Dimension], done: Done, p99_s: float) -> Candidate | None:
    """The next candidate that nobody has tried; None when no single step gains any more."""
    if start not in done:
        return start
    best = start
    while True:
        before = best
        for dimension in dimensions:
            for step in (1, -1):
                reached = best
                while (there := dimension.moved(reached, dimension.at(reached) + step)) is not None:
                    if there not in done:
                        return there
                    if not better(done[there], done[reached], p99_s):
                        break
                    reached = there
                if reached != best:
                    best = reached
                    break
        if best == before:
            return None


def repeat(start: Candidate, done: Done, p99_s: float, *, runs: int = RUNS) -> Candidate | None:
    """Who is to be measured again: of the leaders and the start the one with the fewest runs; None at `runs` each."""
    first = leaders(list(done.values()), p99_s, LEADERS)
    again = {each.candidate: len(each.runs) for each in first}
    if start in done and done[start].measured:
        again.setdefault(start, len(done[start].runs))
    due = {candidate: count for candidate, count in again.items() if count < runs}
    return min(due, key=lambda candidate: due[candidate], default=None)
