"""When a version has nothing in flight."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.deploy.drain import InFlight, Quiet, in_flight
from ops.torchserve.management import Loaded, Worker


def loaded(queued: int, *pids: int) -> Loaded:
    workers = tuple(Worker(str(pid), "READY", pid, 0) for pid in pids)
    return Loaded("m", "1.0", "m.mar", len(pids), 32, workers, 256 - queued, queued)


@pytest.mark.parametrize(
    ("queued", "busy", "expected"),
    [
        (0, {1: False, 2: False}, InFlight(0, 0)),
        (3, {1: True, 2: False}, InFlight(3, 1)),
        (0, {1: None, 2: True}, InFlight(0, 1, silent=1)),
    ],
)
def test_the_queue_and_each_workers_word_count(queued: int, busy: dict[int, bool | None], expected: InFlight) -> None:
    """A batch at work is in no queue; a worker that does not tell may have one."""
    found = in_flight(loaded(queued, *busy), busy.__getitem__)
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
from ops.telemetry import is_busy
facts = WorkerFacts(pid=os.getpid(), model="m", version="1", device="cpu", device_name="cpu", dtype="float32",
                    fingerprint="f", loaded_at=0.0, dimensions=1, max_tokens=1, reason="r")
folder = Path(sys.argv[1])
print(is_busy(folder, os.getpid()))
telemetry = Telemetry(facts, folder)
print(is_busy(folder, os.getpid()))
telemetry.at_work()
print(is_busy(folder, os.getpid()))
telemetry.idle()
print(is_busy(folder, os.getpid()))
"""


def test_a_worker_tells_that_it_is_busy(tmp_path: Path) -> None:
    """Whether it has a batch can be read from outside; of no worker nothing is said."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["None", "False", "True", "False"]
