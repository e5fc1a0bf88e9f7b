"""When a version has nothing in flight."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.deploy.drain import InFlight, Quiet, in_flight
from ops.torchserve.management import Loaded, Worker


def loaded(queued: int, *pids: int) -> Loaded:
    workers = tuple(Worker(str(pid), "READY", pid, 0) for pid in pids)
    return Loaded("m", "1.0", "m.mar", len(pids), 32, 0.002, 60, workers, 256 - queued, queued)


@pytest.mark.parametrize(
    ("queued", "since", "expected"),
    [
        (0, {1: 0.0, 2: 0.0}, InFlight(0, 0)),
        (3, {1: 17.0, 2: 0.0}, InFlight(3, 1)),
        (0, {1: None, 2: 17.0}, InFlight(0, 1, silent=1)),
    ],
)
def test_the_queue_and_each_workers_word_count(queued: int, since: dict[int, float | None], expected: InFlight) -> None:
    """A batch at work is in no queue; a worker that does not tell may have one."""
    found = in_flight(loaded(queued, *since), since.__getitem__)
    assert found == expected
    assert found.nothing == (expected == InFlight(0, 0))


def test_quiet_is_nothing_for_long_enough() -> None:
    """One request starts the time anew."""
    quiet, nothing, one = Quiet(1.0), InFlight(0, 0), InFlight(1, 0)
    looks = [(nothing, 0.0), (nothing, 0.9), (one, 1.0), (nothing, 1.2), (nothing, 2.1), (nothing, 2.3)]
    assert [quiet.see(found, now) for found, now in looks] == [False, False, False, False, False, True]


WORKER = """
import os, sys
from pathlib import Path
from handlers.telemetry import Telemetry, WorkerFacts
from ops.telemetry import busy_since
facts = WorkerFacts(pid=os.getpid(), model="m", version="1", device="cpu", device_name="cpu", dtype="float32",
                    fingerprint="f", loaded_at=0.0, dimensions=1, max_tokens=1, reason="r")
folder = Path(sys.argv[1])
print(busy_since(folder, os.getpid()))
telemetry = Telemetry(facts, folder)
print(busy_since(folder, os.getpid()))
with telemetry.busy():
    print(busy_since(folder, os.getpid()))
print(busy_since(folder, os.getpid()))
"""


def test_a_worker_tells_that_it_is_busy(tmp_path: Path) -> None:
    """Since when it has a batch can be read from outside, 0 where it has none; nothing is said of no worker."""
    began = time.time()
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    unknown, idle, since, after = done.stdout.split()
    assert (unknown, float(idle), float(after)) == ("None", 0.0, 0.0)
    assert began < float(since) < time.time()
