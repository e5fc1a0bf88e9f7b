"""No space left for logs, TEMP, state and telemetry."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.chaos import site
from tests.chaos.ledger import toll
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.needs("root"), pytest.mark.timeout(600)]

DISK_MB = 500
RECOVERS_S = 60.0


@pytest.fixture
def small(fresh_stack: Callable[[], Stack]) -> Iterator[Stack]:
    """A deployment whose var/, logs and TEMP included, is a small disk of its own."""
    stack = fresh_stack()
    var = stack.settings.var
    var.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "embedkit-chaos", str(var)], check=True)
    try:
        stack.embedkit("up")
        yield stack
    finally:
        left = stack.end()
        subprocess.run(["umount", "--lazy", str(var)], check=True)
    assert left == []


class Filler:
    """Takes every byte that is free on a disk, and whatever becomes free, until it is let go."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._full, self._letting_go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._fill)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def fill(self) -> None:
        self._thread.start()
        assert self._full.wait(60)

    def let_go(self) -> None:
        self._letting_go.set()
        if self._thread.is_alive():
            self._thread.join()
        self._file.unlink(missing_ok=True)

    def _fill(self) -> None:
        with self._file.open("wb", buffering=0) as file:
            while not self._letting_go.is_set():
                try:
                    file.write(b"x" * 4096)
                except OSError:
                    self._full.set()
                    self._letting_go.wait(0.01)


def test_a_full_disk_while_serving(small: Stack, record: Callable[[Row], None]) -> None:
    """Requests are answered while nothing can be written, and afterwards logs and metrics go on."""
    trial = Trial(small, record)
    with trial, Filler(small.settings.var / "filler") as filler:
        trial.strike(filler.fill)
        trial.load.settled(500)
        during = site.serves(small)
        filler.let_go()
        freed = time.monotonic()
        access = small.settings.logs / "access.log"
        size = access.stat().st_size
        logged = site.wait(lambda: access.stat().st_size > size, freed, 60, "requests are logged again")
    after = site.footprint(small)
    trial.row(
        30,
        "disk full for logs and TEMP, while serving",
        "requests still answered; logs go on when space returns",
        met=during and not trial.toll.failed and after.workers == trial.before.workers,
        note=f"logged again {logged:.1f} s after",
    )


def test_a_full_disk_while_everything_restarts(small: Stack, record: Callable[[Row], None]) -> None:
    """The JVM killed on a full disk: clients are turned away, and it serves by itself once there is space."""
    trial = Trial(small, record)
    with trial, Filler(small.settings.var / "filler") as filler:
        filler.fill()
        os.kill(trial.before.server, signal.SIGKILL)
        killed = time.monotonic()
        time.sleep(45)
        served = site.serves(small)
        states = small.supervisorctl("status", "torchserve", check=False).stdout.split()[1]
        trial.strike(filler.let_go)
        serving, full = (0.0, 0.0) if served else (trial.serving(180), trial.full_strength(180))
    cost = toll(trial.load.entries, killed)
    trial.row(
        31,
        "disk full for logs and TEMP, and the JVM kill -9",
        f"a clear refusal; serves within {RECOVERS_S:.0f} s of space, without a hand",
        met=serving <= RECOVERS_S and not cost.lost,
        serving_s=serving,
        full_s=full,
        note=f"served on the full disk: {'yes' if served else 'no'}; torchserve was {states} after 45 s; in those "
        f"{cost.refused} refused, {cost.lost} lost",
    )
    assert site.at_full_strength(small)


def test_a_full_disk_and_down(small: Stack) -> None:
    """What is to be stopped is stopped, although nothing can be written."""
    with Filler(small.settings.var / "filler") as filler:
        filler.fill()
        assert small.embedkit("down").stdout.strip() == "stopped"
        assert small.processes() == []
