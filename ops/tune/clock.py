"""When to look further, when to measure the leaders again, when to stop. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ops.tune.plan import REPEAT_SHARE
from ops.tune.result import Ended
from ops.tune.search import RUNS, Done, propose, repeat
from ops.tune.space import Candidate, Dimension

# Breadth first: a short limit is not spent on measuring the first two again.
_LEAST_TRIED = 4
# A run may take that much longer than the longest so far.
_ROOM = 1.1


@dataclass
class Schedule:
    """`searching` ends when no step gains any more, when `most` candidates were tried, or when what is left of the
    limit is for the leaders, who are measured `runs` times.
    """

    start: Candidate
    dimensions: Sequence[Dimension]
    p99_s: float
    limit_s: float
    most: int | None = None
    runs: int = RUNS
    searching: bool = True

    def next(self, done: Done, left_s: float) -> Candidate | None:
        """The next candidate to be measured; None when there is nothing to gain, or no time for one more run."""
        longest = max((run.seconds for trial in done.values() for run in trial.runs), default=0.0)
        if done and left_s < max(longest * _ROOM, 1.0):
            return None
        kept = REPEAT_SHARE * self.limit_s if self.runs > 1 else 0.0
        if self._full(done) or (_measured(done) >= _LEAST_TRIED and left_s - longest < kept):
            self.searching = False
        if self.searching:
            found = propose(self.start, self.dimensions, done, self.p99_s)
            if found is not None:
                return found
            self.searching = False
        return repeat(self.start, done, self.p99_s, runs=self.runs)

    def ending(self, done: Done) -> Ended:
        """Whether the search came to its own end, had its number of candidates, or was ended by the limit."""
        if self._full(done):
            return "candidates"
        return "finished" if propose(self.start, self.dimensions, done, self.p99_s) is None else "time"

    def _full(self, done: Done) -> bool:
        return self.most is not None and _measured(done) >= self.most


def _measured(done: Done) -> int:
    return sum(bool(trial.runs) for trial in done.values())
