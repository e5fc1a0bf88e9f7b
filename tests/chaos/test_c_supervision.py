"""What watches the service dies itself."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from ops.supervisor.watchdog.ledger import ledger_file, read_ledger
from tests.chaos import site
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

BACK_S = 10.0


def test_supervisord_is_killed(trial: Trial) -> None:
    """After `embedkit up` by hand there is one server, no orphan, and the right vector."""
    stack = trial.stack
    starter = threading.Thread(target=stack.embedkit, args=("up",))
    with trial:
        trial.strike(lambda: os.kill(trial.before.supervisord, signal.SIGKILL))
        time.sleep(2)  # the server goes on without it: whether it answers is in what was lost
        began = time.monotonic()
        starter.start()
        # the old server answers until `up` ends it
        site.wait(lambda: not site.is_alive(trial.before.server), began, 60, "the old server is ended")
        serving = trial.serving(90)
        full = trial.full_strength(90)
        starter.join()
    assert stack.jvm_pid() != trial.before.server  # and there is one alone
    trial.row(
        20,
        "supervisord kill -9, then `embedkit up`",
        "one server, no orphan, serving",
        met=True,
        serving_s=serving,
        full_s=full,
        note=f"of it {began - trial.struck:.1f} s until the hand came",
    )


# Program → its place in the table, and what shows that it is back after a moment in Unix time.
HELPERS: dict[str, tuple[int, Callable[[Stack, float], bool]]] = {
    "exporter": (21, lambda stack, _: bool(site.scrape(stack))),
    "watchdog": (22, lambda stack, gone: read_ledger(ledger_file(stack.settings)).at > gone),
    "gateway": (23, lambda stack, _: bool(site.through_gateway(stack))),
}


@pytest.mark.parametrize("program", list(HELPERS))
def test_a_program_beside_the_server_is_killed(trial: Trial, program: str) -> None:
    """It is back within 10 s, and no request to the server notices."""
    order, is_back = HELPERS[program]
    with trial:
        victim = trial.before.programs[program]
        trial.strike(lambda: os.kill(victim, signal.SIGKILL))
        site.wait(lambda: not site.is_alive(victim), trial.struck, 10, "it is gone")
        gone = time.time()
        back = site.wait(lambda: is_back(trial.stack, gone), trial.struck, 60, "it is back")
    after = site.footprint(trial.stack)
    assert after.programs[program] != victim
    trial.row(
        order,
        f"{program} kill -9",
        f"back within {BACK_S:.0f} s, service untouched",
        met=back <= BACK_S and not trial.toll.failed and after.workers == trial.before.workers,
        note=f"back after {back:.1f} s",
    )
