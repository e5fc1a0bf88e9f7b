"""The wall clock jumps: for our own processes alone, by libfaketime, while they run."""

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

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
WATCHED_S = 20.0


def clock_of(stack: Stack) -> float:
    """What the JVM believes the time to be: Unix seconds, from its last line in the access log."""
    last = (stack.settings.logs / "access.log").read_text().splitlines()[-1]
    return int(last.split()[0]) / 1000


@pytest.fixture
def faked(fresh_stack: Callable[[], Stack]) -> tuple[Stack, Path]:
    """A deployment whose wall clock is what a file says."""
    if not LIBRARY.exists():
        pytest.skip("needs libfaketime: .ci/debian.sh installs it")
    stack = fresh_stack()
    sleep = stack.folder / "true_sleep.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", sleep, Path(__file__).with_name("true_sleep.c")], check=True)
    told = stack.folder / "clock"
    told.write_text("+0")
    stack.embedkit("up")  # what is packed and verified needs no false clock
    stack.embedkit("down")
    stack.environ |= {
        "LD_PRELOAD": f"{sleep}:{LIBRARY}",
        "FAKETIME_TIMESTAMP_FILE": str(told),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as a clock that is set: the monotonic one goes on
    }
    stack.embedkit("up")
    for name in ("LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE"):  # this test's own commands have the machine's clock
        del stack.environ[name]
    return stack, told


def test_the_clock_jumps_by_an_hour(faked: tuple[Stack, Path], record: Callable[[Row], None]) -> None:
    """An hour on and an hour back: no process restarts, no request fails."""
    stack, told = faked
    trial = Trial(stack, record)
    with trial:
        offsets = []
        trial.strike(lambda: told.write_text("+3600"))
        time.sleep(WATCHED_S)
        offsets.append(clock_of(stack) - time.time())
        told.write_text("+0")
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
