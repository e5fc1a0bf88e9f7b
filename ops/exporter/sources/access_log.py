"""Whole requests, from TorchServe's access log."""

import threading
import time
from collections import Counter

from ops.canary import mark_of
from ops.desired import desired_file, read_models
from ops.errors import OpsError
from ops.exporter.access_log import LineReader, RequestCounts
from ops.exporter.clock import ClockWatch
from ops.exporter.families import Families
from ops.exporter.source import SourceError
from ops.exporter.tail import Tail
from ops.settings import Settings

# Between two looks at the clock a step can hide one from another; between two at the log it may be rotated away.
POLL_S = 1.0
_NO_MARK = b"\n"  # in no query


class AccessLogSource:
    """Counts what the log says, every second and at each scrape."""

    name = "access_log"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tail = Tail(settings.logs / "access.log", settings.state / "access-log-position")
        self._clock = ClockWatch()
        self._counts = RequestCounts(self._clock)
        mark = mark_of(settings)
        self._reader = LineReader(mark.query.encode() if mark else _NO_MARK)
        self._lock = threading.Lock()
        self.errors: Counter[str] = Counter()

    def watch(self, stop: threading.Event) -> None:
        """Look every second until `stop`; a look that fails is told by the next scrape."""
        while not stop.wait(POLL_S):
            with self._lock:
                try:
                    self._look()
                except OSError:
                    continue

    def close(self) -> None:
        with self._lock:
            self._tail.close()

    def fetch(self, families: Families) -> None:
        with self._lock:
            try:
                self._look()
            except OSError as error:
                raise SourceError("failed", f"{error.filename}: {error.strerror}") from error
            self._counts.add_to(families)

    def _look(self) -> None:
        try:
            models = list(read_models(desired_file(self._settings)))
        except OpsError:
            pass  # a damaged desired state is told elsewhere; the models stay as they were
        else:
            self._reader.allow(models)
            self._counts.expect(models)
        lost, unreadable = self._tail.lost, self._reader.unreadable
        lines = self._tail.read()
        self._clock.reading(time.monotonic(), time.time())  # after the lines: each ended before it
        self._counts.count(self._reader.read(lines))
        if self._tail.lost > lost:
            self.errors["lost_lines"] += self._tail.lost - lost
        if self._reader.unreadable > unreadable:
            self.errors["unreadable"] += self._reader.unreadable - unreadable
