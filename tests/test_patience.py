"""Waits grow with the start time that was seen, and with nothing else."""

import subprocess
import time
from collections.abc import Iterator

import pytest

from tests import patience


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A process that stands for a server, on a machine of which nothing is known and whose starts take 0.1 s."""
    monkeypatch.setattr(patience, "PLAIN_START_S", 0.1)
    monkeypatch.setattr(patience, "_slowest_s", 0.1)
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def test_a_slow_start_stretches_waits(sleeper: int) -> None:
    """A start that took five times the plain one makes waits at least five times as long, and a quicker one after it
    does not shorten them."""
    assert patience.scaled(30) == 30
    time.sleep(0.5)
    patience.measure(sleeper, 10)
    stretched = patience.scaled(30)
    assert stretched >= 30 * 0.48 / 0.1  # a process's age is known to a hundredth of a second
    with subprocess.Popen(["sleep", "60"]) as quick:
        patience.measure(quick.pid, 10)
        quick.kill()
    assert patience.scaled(30) == stretched


def test_a_server_that_ran_before_is_no_start(sleeper: int) -> None:
    """`up` on a running service says nothing about starts."""
    time.sleep(0.2)
    patience.measure(sleeper, 0.1)
    assert patience.scaled(30) == 30
