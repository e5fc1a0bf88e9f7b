"""How often one kind of action may be taken on one target: exponential delays with a cap and jitter, and a budget.

Who has used up the budget goes on at the cap's pace: nobody is given up, and it is said loudly.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 3600.0


@dataclass(frozen=True)
class Limits:
    """The delay after the first action, in seconds, doubling up to `cap_s`; `budget` actions an hour."""

    first_s: float
    cap_s: float
    budget: int


class Pace:
    """`spread` gives a number from 0 to 1, for the jitter: delays are shortened by up to a quarter."""

    def __init__(self, limits: Limits, spread: Callable[[], float]) -> None:
        self._limits, self._spread = limits, spread
        self._taken: deque[float] = deque()
        self._in_a_row = 0
        self._next_at = 0.0

    def due(self, now: float) -> bool:
        return now >= self._next_at

    def take(self, now: float) -> None:
        """An action is taken now."""
        limits = self._limits
        if self._taken and now - self._taken[-1] > 2 * limits.cap_s:
            self._in_a_row = 0
        self._taken.append(now)
        delay = min(limits.cap_s, limits.first_s * 2.0 ** min(self._in_a_row, 30))
        if self.remaining(now) == 0:
            delay = limits.cap_s
        self._in_a_row += 1
        self._next_at = now + delay * (1 - self._spread() / 4)

    def remaining(self, now: float) -> int:
        """What is left of the budget."""
        while self._taken and now - self._taken[0] >= WINDOW_S:
            self._taken.popleft()
        return max(0, self._limits.budget - len(self._taken))
