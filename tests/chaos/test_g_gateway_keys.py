"""A key is made while the gateway is down, or dies."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import orjson
import pytest
import requests

from ops.gateway.keys import keys_file
from ops.gateway.knock import Door, knock
from tests.chaos import site
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

WATCHED_S = 3.0


@pytest.fixture
def keyless(trial: Trial) -> Iterator[Trial]:
    """Every key is forgotten afterwards."""
    yield trial
    keys_file(trial.stack.settings).unlink()
    trial.stack.embedkit("up")


def stopped(stack: Stack, make_key: Callable[[], None]) -> None:
    stack.supervisorctl("stop", "gateway")
    make_key()
    stack.supervisorctl("start", "gateway")


def killed(stack: Stack, make_key: Callable[[], None]) -> None:
    """supervisord starts it again while the command is at work."""
    os.kill(site.programs(stack)["gateway"], signal.SIGKILL)
    make_key()


@pytest.mark.parametrize(
    ("order", "told", "fault"),
    [(450, "while the gateway is stopped", stopped), (451, "while the gateway is killed", killed)],
)
def test_the_first_key_while_the_gateway_is_down(
    keyless: Trial, order: int, told: str, fault: Callable[[Stack, Callable[[], None]], None]
) -> None:
    """Once `embedkit key add` has returned nobody is let in without, however it is started; who has the key is."""
    stack, settings = keyless.stack, keyless.stack.settings
    seen: list[tuple[float, Door]] = []
    made: list[tuple[float, str]] = []
    enough = threading.Event()

    def watch() -> None:
        while not enough.is_set():
            began = time.monotonic()
            seen.append((began, knock(settings)))

    def make_key() -> None:
        key = orjson.loads(stack.embedkit("key", "add", "app1", "--json").stdout)["key"]
        made.append((time.monotonic(), key))

    watcher = threading.Thread(target=watch)
    with keyless:
        watcher.start()
        site.wait(lambda: "open" in {door for _, door in seen}, time.monotonic(), 10, "the gateway is open")
        keyless.strike(lambda: fault(stack, make_key))
        site.wait(lambda: knock(settings) == "closed", keyless.struck, 30, "the gateway is back")
        back = time.monotonic() - keyless.struck
        time.sleep(WATCHED_S)
        enough.set()
        watcher.join()
    ((at, key),) = made
    after = [door for began, door in seen if began > at]
    use = {"Authorization": f"Bearer {key}"}
    let_in = requests.get(settings.gateway_url("/v1/models"), headers=use, timeout=5).status_code == 200
    keyless.row(
        order,
        f"`embedkit key add`, the first key, {told}",
        "from its return on nobody is let in without, the key is; service untouched",
        met=let_in and "open" not in after and "closed" in after and not keyless.toll.failed,
        note=f"asked {len(after)} times from then on, let in {after.count('open')} times; closed {back:.1f} s after",
    )
