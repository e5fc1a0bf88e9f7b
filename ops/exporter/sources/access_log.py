"""Whole requests, each once, from the log of the door that it came through: the gateway's, or TorchServe's own."""

import threading
import time
from collections import Counter

from ops.canary import forwarded_query, mark_for, token_of
from ops.desired import desired_file, read_models
from ops.errors import OpsError
from ops.exporter.access_log import LineReader, RequestCounts
from ops.exporter.clock import ClockWatch
from ops.exporter.families import Families
from ops.exporter.gateway_log import GatewayLineReader
from ops.exporter.source import SourceError
from ops.exporter.tail import Tail
from ops.settings import Settings

# Between two looks at the clock a step can hide one from another; between two at the log it may be rotated away.
POLL_S = 1.0


class AccessLogSource:
    """Counts what the logs say, every second and at each scrape."""

    name = "access_log"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = ClockWatch()
        self._counts = RequestCounts(self._clock)
        readers: dict[str, LineReader | GatewayLineReader] = {
            "access": LineReader(_marks(settings)),
            "gateway": GatewayLineReader(),
        }
        self._logs = [
            (Tail(settings.logs / f"{name}.log", settings.state / f"{name}-log-position"), reader)
            for name, reader in readers.items()
        ]
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
            for tail, _ in self._logs:
                tail.close()

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
            for _, reader in self._logs:
                reader.allow(models)
            self._counts.expect(models)
        for tail, reader in self._logs:
            lost, unreadable = tail.lost, reader.unreadable
            lines = tail.read()
            self._clock.reading(time.monotonic(), time.time())  # after the lines: each ended before it
            self._counts.count(reader.read(lines))
            if tail.lost > lost:
                self.errors["lost_lines"] += tail.lost - lost
            if reader.unreadable > unreadable:
                self.errors["unreadable"] += reader.unreadable - unreadable


def _marks(settings: Settings) -> list[bytes]:
    """The queries of the kit's own probes, and of what the gateway passes on; none where the secret is not ours."""
    try:
        token = token_of(settings)
    except (OSError, UnicodeDecodeError):
        return []
    return [mark_for(token).query.encode(), forwarded_query(token).encode()]
