"""supervisord lives and cannot be spoken to, or the folder that its programs work in was emptied."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from ops.supervisor.config import socket_file
from ops.torchserve import leftovers
from tests.chaos import site
from tests.chaos.trial import Trial

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

SAID_S = 15.0
MENDED_S = 90.0

FAULTS: dict[str, tuple[int, Callable[[Trial], object]]] = {
    "supervisord stopped (SIGSTOP)": (460, lambda trial: os.kill(trial.before.supervisord, signal.SIGSTOP)),
    "supervisord's socket removed": (470, lambda trial: socket_file(trial.stack.settings).unlink()),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_supervisord_does_not_answer(trial: Trial, fault: str) -> None:
    """The service goes on and `embedkit status` says what is wrong; `embedkit up` by hand leaves one supervisord."""
    stack, (order, strike) = trial.stack, FAULTS[fault]
    starter = threading.Thread(target=stack.embedkit, args=("up",))
    with trial:
        supervisord = trial.before.supervisord
        trial.strike(lambda: strike(trial))
        assert f"(pid {supervisord}) runs and does not answer" in stack.embedkit("status", check=False).stderr
        said = time.monotonic() - trial.struck
        untouched = not trial.toll.failed
        began = time.monotonic()
        starter.start()
        # the old server answers until `up` ends it
        site.wait(lambda: not site.is_alive(trial.before.server), began, 120, "the old server is ended")
        serving, full = trial.serving(120), trial.full_strength(120)
        starter.join()
    assert not site.is_alive(supervisord)
    trial.row(
        order,
        f"{fault}, then `embedkit up`",
        f"named within {SAID_S:.0f} s, service untouched until then; one supervisord after it",
        met=said <= SAID_S and untouched,
        serving_s=serving,
        full_s=full,
        note=f"named after {said:.1f} s; of it {began - trial.struck:.1f} s until the hand came",
    )


def test_temp_is_emptied(trial: Trial) -> None:
    """What TorchServe has unpacked is gone and its workers end: no new one loads, until the watchdog restarts it."""

    def empty() -> None:
        leftovers.clear_folder(trial.stack.settings.temp)
        for pid in trial.before.workers["minilm"]:
            os.kill(pid, signal.SIGKILL)

    with trial:
        trial.strike(empty)
        serving, full = trial.serving(300), trial.full_strength(300)
    assert site.footprint(trial.stack).server != trial.before.server
    trial.row(
        480,
        "TEMP emptied, all workers kill -9",
        f"serves within {MENDED_S:.0f} s, without a hand",
        met=serving <= MENDED_S,
        serving_s=serving,
        full_s=full,
    )
