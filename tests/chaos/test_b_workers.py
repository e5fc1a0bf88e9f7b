"""A worker dies or hangs."""

import os
import signal

import pytest

from tests.chaos import site
from tests.chaos.trial import Trial

pytestmark = pytest.mark.chaos

FULL_STRENGTH_S = 15.0


def test_one_of_two_workers_is_killed(trial: Trial) -> None:
    """Only what its batch held is lost, nothing is refused, and the full strength is back within 15 s."""
    batch = site.loaded(trial.stack)
    assert batch is not None
    with trial:
        victim = min(trial.before.workers["minilm"])
        trial.strike(lambda: os.kill(victim, signal.SIGKILL))
        full = trial.full_strength(60, without=frozenset({victim}))
        serving = trial.serving(60)
    cost = trial.toll
    assert site.footprint(trial.stack).server == trial.before.server
    trial.row(
        4,
        "worker kill -9, one of two",
        f"lost: its batch alone; full strength within {FULL_STRENGTH_S:.0f} s",
        met=full <= FULL_STRENGTH_S and cost.lost == cost.refused == 0 and cost.open_failed <= batch.batch_size,
        serving_s=min(serving, full),
        full_s=full,
    )
