"""Long load. SOAK_MINUTES and SOAK_REQUESTS say how long; `make soak` sets them."""

import os
import time
from collections.abc import Callable

import psutil
import pytest

from tests.chaos import site
from tests.chaos.ledger import growth
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2 * 3600)]

MINUTES = float(os.environ.get("SOAK_MINUTES", "5"))
REQUESTS = int(os.environ.get("SOAK_REQUESTS", "100000"))
SETTLED_AFTER = 5_000  # requests
SAMPLE_S = 2.0
WORKER_GROWTH = 0.02
# The heap is touched as load asks for it, up to its limit: what lies beside it is what could leak.
SERVER_NATIVE_MB = 256


class Watched:
    """Resident memory of workers and JVM beside the requests answered so far."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._samples: dict[int, list[tuple[float, float]]] = {}

    def look(self) -> int:
        """Take a sample of each; returns the requests so far."""
        done = len(self._trial.load.entries)
        pids = (*self._trial.before.workers["minilm"], self._trial.before.server)
        for pid in pids if done >= SETTLED_AFTER else ():
            self._samples.setdefault(pid, []).append((done, psutil.Process(pid).memory_info().rss))
        return done

    @property
    def server_mb(self) -> float:
        """The JVM's most."""
        return max(rss for _, rss in self._samples[self._trial.before.server]) / site.MB

    @property
    def workers(self) -> float:
        """That of the worker that grew most."""
        return max(growth(self._samples[pid]) for pid in self._trial.before.workers["minilm"])

    def told(self) -> str:
        lines = [one for one in self._samples.values() if one]
        mb = ", ".join(f"{first[1] / site.MB:.0f} → {last[1] / site.MB:.0f} MB" for first, *_, last in lines)
        return f"workers and JVM {mb}; fitted growth at most {self.workers:.1%} of a worker"


def soak(trial: Trial, order: int, what: str, more: Callable[[int], bool]) -> None:
    watched = Watched(trial)
    with trial:
        trial.strike(lambda: None)
        began = time.monotonic()
        while more(watched.look()):
            time.sleep(SAMPLE_S)
        seconds = time.monotonic() - began
    cost, after = trial.toll, site.footprint(trial.stack)
    limit_mb = trial.stack.settings.jvm_heap_mb + SERVER_NATIVE_MB
    same = (after.programs, after.workers) == (trial.before.programs, trial.before.workers)
    trial.row(
        order,
        what,
        f"no restart, no error; after {SETTLED_AFTER:,} requests a worker grows by less than {WORKER_GROWTH:.0%}, and "
        f"the JVM stays below its heap limit + {SERVER_NATIVE_MB} MB",
        met=same and not cost.failed and watched.workers < WORKER_GROWTH and watched.server_mb < limit_mb,
        note=f"{cost.sent:,} requests in {seconds / 60:.0f} min; {watched.told()}",
    )


def test_mixed_load(stack: Stack, record: Callable[[Row], None]) -> None:
    """Short texts, passages and long ones, for as long as is asked."""
    trial = Trial(stack, record, profiles=("short", "mixed", "short", "passages"), keep_every=200)
    ends = time.monotonic() + MINUTES * 60
    soak(trial, 50, f"{MINUTES:g} minutes of mixed load", lambda _: time.monotonic() < ends)


def test_many_short_requests(stack: Stack, record: Callable[[Row], None]) -> None:
    """As many requests as is asked, on 64 connections."""
    trial = Trial(stack, record, connections=64, profiles=("short",), keep_every=500)
    soak(trial, 51, f"{REQUESTS:,} short texts on 64 connections", lambda done: done < REQUESTS)
