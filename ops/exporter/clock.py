"""Whether the wall clock told a duration rightly. Pure: the caller brings readings of both clocks.

TorchServe times a request by the wall clock, start and end. While nobody sets that clock it runs with the monotonic
one; their difference jumps when somebody does. A request that was in the server at that moment has a wrong duration,
negative or hours long or, worst, plausible. Which requests those may be follows from the two readings between which
the jump lies.
"""

from collections import deque
from dataclasses import dataclass

# Beyond what NTP's slewing (500 ppm) and the reading itself can make of it.
TOLERANCE_S = 0.010
_SLEW = 0.001
# No request takes longer: TorchServe ends a worker that does not answer within response_timeout_s, and before that a
# request waits for at most a queue of such batches.
LONGEST_S = 900.0


@dataclass(frozen=True)
class Step:
    """The wall clock was set by `size_s` at some moment between two wall times, both as the clock told them."""

    before_wall_s: float
    after_wall_s: float
    size_s: float


class ClockWatch:
    """Sees steps of the wall clock in readings of both clocks that come in order, and judges durations by them."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._recent: deque[Step] = deque(maxlen=32)
        self.steps = 0

    def reading(self, monotonic_s: float, wall_s: float) -> None:
        """What both clocks say now."""
        if self._last is not None:
            passed = monotonic_s - self._last[0]
            size = (wall_s - self._last[1]) - passed
            if abs(size) > TOLERANCE_S + _SLEW * passed:
                self.steps += 1
                self._recent.append(Step(self._last[1], wall_s, size))
        self._last = (monotonic_s, wall_s)

    def sound(self, end_wall_s: float, duration_s: float) -> bool:
        """Whether a request that ended at this wall time was in the server through no step that we know of."""
        if not 0 <= duration_s <= LONGEST_S:
            return False
        return not any(_may_hold(step, end_wall_s, duration_s) for step in self._recent)


def _may_hold(step: Step, end_wall_s: float, duration_s: float) -> bool:
    """Whether the request may have begun before the step and ended after it.

    Told by the old clock the step lies in [before, after - size], by the new one in [before + size, after].
    """
    begin = end_wall_s - duration_s
    by_old_clock = begin <= step.after_wall_s - step.size_s and end_wall_s >= step.before_wall_s
    by_new_clock = begin <= step.after_wall_s and end_wall_s >= step.before_wall_s + step.size_s
    # If it was there, it took this long in truth, and began that much before its end.
    truly = duration_s - step.size_s
    through = 0 <= truly <= LONGEST_S and (
        end_wall_s >= step.before_wall_s + step.size_s and end_wall_s - truly <= step.after_wall_s
    )
    return by_old_clock or by_new_clock or through
