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

    def run(self, stop: threading.Event) -> None:
        """Try at once and then at the interval, until `stop`."""
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + self._interval_s
            try:
                self.round()
            except Exception:  # else the canaries end for good, and their last success stays on show
                log.exception("beginning a round")

    def round(self) -> None:
        """Begin a try of each target, but for those whose last one has not come back."""
        for model, reference in self._targets().items():
            with self._lock:
                if model in self._under_way:
                    continue
                self._under_way.add(model)
            threading.Thread(target=self._try, args=(model, reference), name=f"probe {model}", daemon=True).start()

    def _try(self, model: str, reference: Reference) -> None:
        try:
            probe = self._probe(model, reference)
            with self._lock:
                self._heard(Tried(probe, time.time()))
        except Exception:
            log.exception("trying %s", model)
        finally:
            with self._lock:
                self._under_way.discard(model)
