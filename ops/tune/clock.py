"""When to look further, when to measure the leaders again, when to stop. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ops.tune.plan import REPEAT_SHARE
from ops.tune.search import Done, propose, repeat
from ops.tune.space import Candidate, Dimension

# Breadth first: a short limit is not spent on measuring the first two again.
_LEAST_TRIED = 4
# A run may take that much longer than the longest so far.
_ROOM = 1.1


@dataclass
class Schedule:
    """`searching` ends when no step gains any more, or when what is left of the limit is for the leaders."""

    start: Candidate
    dimensions: Sequence[Dimension]
    p99_s: float
    limit_s: float
    searching: bool = True

    def next(self, done: Done, left_s: float) -> Candidate | None:
        """The next candidate to be measured; None when there is nothing to gain, or no time for one more run."""
        longest = max((run.seconds for trial in done.values() for run in trial.runs), default=0.0)
        if done and left_s < max(longest * _ROOM, 1.0):
            return None
        kept = REPEAT_SHARE * self.limit_s
        if sum(bool(each.runs) for each in done.values()) >= _LEAST_TRIED and left_s - longest < kept:
            self.searching = False
        if self.searching:
            found = propose(self.start, self.dimensions, done, self.p99_s)
            if found is not None:
                return found
            self.searching = False
        return repeat(self.start, done, self.p99_s)

    def finished(self, done: Done) -> bool:
        """Whether the search came to its own end, rather than the limit's."""
        return propose(self.start, self.dimensions, done, self.p99_s) is None
