"""Try each served model with its known text at an interval: one prober for canary metrics, health and watchdog.

Each try has a thread, a timeout, and never a second beside it for the same model.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ops.probe import Probe, Reference

log = logging.getLogger("embedkit.prober")

FIRST_S = 1.0  # between tries of a model that has not been right yet: while it loads, `up` waits to hear of it


@dataclass(frozen=True)
class Tried:
    """The last try of a model and when it ended, in Unix time."""

    probe: Probe
    at: float


class Prober:
    """Tries every target, and hands each outcome to `heard`, one at a time.

    `targets` gives the models to try with their references, asked anew each time; `probe` makes one try and returns
    in bounded time.
    """

    def __init__(
        self,
        targets: Callable[[], Mapping[str, Reference]],
        probe: Callable[[str, Reference], Probe],
        interval_s: float,
        heard: Callable[[Tried], None],
    ) -> None:
        self._targets, self._probe, self._interval_s, self._heard = targets, probe, interval_s, heard
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._right: set[str] = set()  # the models that have been, since they are targets
        self._awaited = False

    def run(self, stop: threading.Event) -> None:
        """Try at once and then at the interval, until `stop`; a model that has not been right yet each second."""
        due = whole = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            try:
                self.round(first_only=now < whole)
            except Exception:  # else the canaries end for good, and their last success stays on show
                log.exception("beginning a round")
            if now >= whole:
                whole = now + self._interval_s
            due = min(whole, now + FIRST_S) if self._awaited else whole

    def round(self, *, first_only: bool = False) -> None:
        """Begin a try of each target, or of those that have not been right yet, but for those whose last one has not
        come back."""
        targets = self._targets()
        with self._lock:
            self._right &= targets.keys()
            self._awaited = self._right != targets.keys()
        for model, reference in targets.items():
            with self._lock:
                if model in self._under_way or (first_only and model in self._right):
                    continue
                self._under_way.add(model)
            threading.Thread(target=self._try, args=(model, reference), name=f"probe {model}", daemon=True).start()

    def _try(self, model: str, reference: Reference) -> None:
        try:
            probe = self._probe(model, reference)
            with self._lock:
                if probe.ok:
                    self._right.add(model)
                self._heard(Tried(probe, time.time()))
        except Exception:
            log.exception("trying %s", model)
        finally:
            with self._lock:
                self._under_way.discard(model)
