"""Stage times are the difference of what the workers wrote, however many workers there are or were."""

import subprocess
import sys
from pathlib import Path

import pytest

from ops.bench.stages import Stages, between, snapshot, together

# What a worker's handler does, with durations of our own.
WRITE = """
import os, sys
from pathlib import Path
folder, model, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
from handlers.telemetry import Telemetry, WorkerFacts
facts = WorkerFacts(pid=os.getpid(), model=model, version="1", device="cpu", device_name="cpu", dtype="float32",
                    fingerprint="f", loaded_at=0.0, dimensions=1, max_tokens=1, reason="r")
telemetry = Telemetry(facts, folder)
for _ in range(batches):
    telemetry._metrics.stages["tokenize"](0.25)
    telemetry._metrics.stages["forward"](1.5)
    telemetry.batch(texts=3, tokens=40, padded=48, truncated=0)
"""


def write(folder: Path, model: str, batches: int) -> None:
    subprocess.run([sys.executable, "-c", WRITE, str(folder), model, str(batches)], check=True, timeout=60)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Two workers of one model between two snapshots, after a third one's work, beside another model's."""
    folder = tmp_path_factory.mktemp("telemetry")
    write(folder, "m", 5)
    before = snapshot(folder, "m")
    write(folder, "m", 2)
    write(folder, "m", 1)
    write(folder, "other", 7)
    return between(before, snapshot(folder, "m"), elapsed_s=10.0, workers=2)


def test_only_what_was_done_in_between_counts(measured: Stages) -> None:
    """Earlier work, another model's and the stages' order do not disturb."""
    assert list(measured.seconds.items()) == [
        ("decode", 0.0),
        ("tokenize", 0.75),
        ("forward", 4.5),
        ("encode", 0.0),
    ]
    assert measured.share["forward"] == pytest.approx(4.5 / 20)


def test_batches_are_counted(measured: Stages) -> None:
    """Three batches of three texts and forty tokens; the histogram names their bucket alone."""
    assert (measured.batches, measured.texts, measured.tokens) == (3, 9, 120)
    assert (measured.mean_batch_texts, measured.mean_batch_tokens) == (3.0, 40.0)
    assert measured.batch_texts == {"4.0": 3}


def test_phases_add_up(measured: Stages) -> None:
    """Two phases as one: times and counts double, shares and means stay."""
    both = together([measured, measured])
    assert both.seconds["forward"] == pytest.approx(9.0)
    assert both.share == pytest.approx(measured.share)
    assert (both.batches, both.mean_batch_texts, both.batch_texts) == (6, 3.0, {"4.0": 6})


def test_without_telemetry_there_are_no_stages(tmp_path: Path) -> None:
    """Workers that write nothing leave empty stages, not an error."""
    assert snapshot(tmp_path, "m") == {}
    found = between({}, {}, elapsed_s=1.0, workers=0)
    assert (found.seconds, found.batches, found.mean_batch_texts) == ({}, 0, 0.0)
