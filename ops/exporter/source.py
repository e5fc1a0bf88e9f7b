"""A source of metrics, and how it is asked: in a thread of its own, one question at a time, with a deadline.

A source that hangs costs its own families. Its thread is left to its own timeout and not doubled: until it has come
back, the source counts as down.
"""

import logging
import threading
import time
from collections import Counter
from typing import Protocol

from ops.exporter.families import Families

log = logging.getLogger("embedkit.exporter")


class SourceError(Exception):
    """A source has nothing to tell. `kind` is one of those in embedkit_source_errors_total's text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Source(Protocol):
    """Something to ask. `name` is the label of its embedkit_source_up; `errors` counts what went wrong, by kind."""

    name: str
    errors: Counter[str]

    def fetch(self, families: Families) -> None:
        """Put what there is now into the families.

        Raises:
            SourceError: there is nothing; any other exception is taken as one of kind "failed".
        """


class AbsentError(Exception):
    """The source does not exist here, by design: no GPU driver. It is then not up and not down."""


class Asked:
    """One question to a source and, once it is there, its answer."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.families = Families()
        self.error: SourceError | None = None
        self.absent = False
        self.seconds = 0.0


class Runner:
    """Asks one source."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.errors = source.errors
        self._source = source
        self._lock = threading.Lock()
        self._running: Asked | None = None
        self._said = ""

    def ask(self) -> Asked:
        """The question that is under way, or a new one."""
        with self._lock:
            if self._running is None:
                self._running = Asked()
                threading.Thread(target=self._run, args=(self._running,), name=self.name, daemon=True).start()
            return self._running

    def _run(self, asked: Asked) -> None:
        started = time.monotonic()
        try:
            self._source.fetch(asked.families)
        except AbsentError:
            asked.absent = True
        except SourceError as error:
            asked.error = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the other sources are not harmed
            asked.error = SourceError("failed", f"{type(error).__name__}: {error}")
        asked.seconds = time.monotonic() - started
        with self._lock:
            self._running = None
        asked.done.set()

    def wait(self, asked: Asked, until: float) -> SourceError | None:
        """Wait for the answer until this monotonic time; returns what is wrong, which is counted and said once."""
        if not asked.done.wait(max(0.0, until - time.monotonic())):
            error: SourceError | None = SourceError("timeout", "no answer in time")
        else:
            error = asked.error
        if error is not None:
            self.errors[error.kind] += 1
        said = f"{error.kind}: {error}" if error else ""
        if said != self._said:
            log.warning("%s: %s", self.name, said or "answers again")
            self._said = said
        return error
