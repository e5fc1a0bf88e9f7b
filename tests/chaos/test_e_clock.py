"""The wall clock jumps, for our own processes alone, while they run."""

import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import site
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

SOURCE = Path(__file__).with_name("false_clock.c")
WATCHED_S = 20.0


def clock_of(stack: Stack) -> float:
    """What the JVM believes the time to be: Unix seconds, from its last line in the access log."""
    last = (stack.settings.logs / "access.log").read_text().splitlines()[-1]
    return int(last.split()[0]) / 1000


def tell(told: Path, seconds: int) -> None:
    """Let the clock be wrong by so much from now on."""
    with told.open("r+b") as file:
        file.write(struct.pack("q", seconds))


@pytest.fixture
def faked(fresh_stack: Callable[[], Stack]) -> tuple[Stack, Path]:
    """A deployment whose wall clock is wrong by what a file says."""
    stack = fresh_stack()
    library, told = stack.folder / "false_clock.so", stack.folder / "clock"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True)
    told.write_bytes(struct.pack("q", 0))
    stack.environ |= {"LD_PRELOAD": str(library), "FALSE_CLOCK": str(told)}
    stack.embedkit("up")
    del stack.environ["LD_PRELOAD"]  # this test's own commands have the machine's clock
    return stack, told


def test_the_clock_jumps_by_an_hour(faked: tuple[Stack, Path], record: Callable[[Row], None]) -> None:
    """An hour on and an hour back: no process restarts, no request fails."""
    stack, told = faked
    trial = Trial(stack, record)
    with trial:
        offsets = []
        trial.strike(lambda: tell(told, 3600))
        time.sleep(WATCHED_S)
        offsets.append(clock_of(stack) - time.time())
        tell(told, 0)
        time.sleep(WATCHED_S)
        offsets.append(clock_of(stack) - time.time())
    assert offsets == pytest.approx([3600, 0], abs=5)
    after = site.footprint(stack)
    same = (after.supervisord, after.programs, after.workers) == (
        trial.before.supervisord,
        trial.before.programs,
        trial.before.workers,
    )
    trial.row(
        33,
        "clock jump of an hour, on and back",
        "nothing restarts",
        met=same and not trial.toll.failed,
        note=f"watched for {WATCHED_S:.0f} s each",
    )
