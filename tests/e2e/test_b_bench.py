"""`embedkit bench`, whole, on the deployment of these tests: every part of it for a moment."""

from pathlib import Path

import pytest

from archives.progress import SILENT
from ops.bench.command import write
from ops.bench.options import Options
from ops.bench.run import bench
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MOMENT = Options(
    quick=True,
    seed=5,
    profiles=("short",),
    connections=(1, 16),
    fractions=(0.5,),
    repeats=1,
    warm_up_s=0.5,
    closed_s=0.5,
    open_s=0.5,
    overload_s=0.5,
    sample=32,
    trial_s=0.1,
    passes=1,
    alone=10,
    kept=8,
)


def test_every_part_of_it_is_measured(stack: Stack, tmp_path: Path) -> None:
    """Ceiling, bound, one connection, open loop, overload and stages, with right vectors in between; and the page."""
    before = stack.worker_pids()
    result = bench(stack.settings, "minilm", MOMENT, SILENT)

    assert result.errors == 0
    assert (result.truth.checked >= 8, result.truth.wrong) == (True, 0)
    (short,) = result.profiles
    assert [point.connections for point in short.closed] == [1, 16]
    assert all(run.answered == run.sent for point in short.closed for run in point.runs)
    assert 0 < short.efficiency < 1.5
    assert short.bound.texts_per_s > 0
    assert short.latency1.served is not None
    assert short.latency1.served.p50 > short.latency1.alone.p50 / 2
    assert [point.fraction for point in short.open] == [0.5]
    assert (short.overload.lost_workers, short.overload.answers_after) == ([], True)
    assert short.stages.share["forward"] > short.stages.share["encode"]
    assert result.machine.versions["java"].startswith("11.")
    assert result.headline in write(result, tmp_path).read_text()
    assert stack.worker_pids() == before
