"""Time as the watchdog counts it: only while it looks.

Neither a wall clock that is set, nor a machine that slept, nor a watchdog that was itself stopped makes anything old.
"""

import time
from collections.abc import Callable

TICK_S = 5.0  # supervisord's TICK_5
_MOST_S = 2 * TICK_S
_LEAST_S = TICK_S / 2


class LookingTime:
    """Seconds spent looking."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last = monotonic()
        self.now = 0.0

    def tick(self) -> bool:
        """A tick has come; returns whether it is one to look at: ticks that piled up come all at once."""
        passed = self._monotonic() - self._last
        if 0 <= passed < _LEAST_S and self.now:
            return False
        self._last += passed
        self.now += max(_LEAST_S, min(passed, _MOST_S))
        return True
