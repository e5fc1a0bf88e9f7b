"""Time limits: each stage has its own, and all of them end in time to clean up and to write what there is."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType


class OutOfTimeError(KeyboardInterrupt):
    """A stage's time is up. A KeyboardInterrupt, since no `except Exception` on the way is meant."""


class Clock:
    """`seconds` for everything, of which `reserve_s` are kept for the end. Use it in the main thread."""

    def __init__(self, seconds: float, *, reserve_s: float) -> None:
        self.started = time.monotonic()
        self._end = self.started + seconds - reserve_s

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds that stages may still take."""
        return self._end - time.monotonic()

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[float]:
        """The block gets so many seconds, or what is left of all; yields how many.

        Raises:
            OutOfTimeError: they are over, or there were none.
        """
        given = min(seconds, self.left)
        if given <= 0:
            raise OutOfTimeError("no time was left for it")

        over = OutOfTimeError(f"its {given:.0f} s are over")

        def up(number: int, frame: FrameType | None) -> None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise over from None
            # Raised in the middle of the loop's own work, it could leave a task behind that nothing wakes any more.
            loop.call_soon_threadsafe(_cancel_all, loop)

        before = signal.signal(signal.SIGALRM, up)
        signal.setitimer(signal.ITIMER_REAL, given)
        try:
            yield given
        except asyncio.CancelledError:
            raise over from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
