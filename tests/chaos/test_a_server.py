"""The JVM dies: by a signal, or because its heap is full."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import orjson
import psutil
import pytest
import requests

from tests.chaos import site
from tests.chaos.table import Row
from tests.chaos.trial import Trial, plain_start
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

# What a recovery may take longer than a start does: noticing, and ending what was left.
MORE_S = 5.0


@pytest.mark.parametrize(("order", "name", "number"), [(1, "kill -9", signal.SIGKILL), (2, "SIGTERM", signal.SIGTERM)])
def test_the_jvm_is_killed(trial: Trial, plain_start_s: float, order: int, name: str, number: int) -> None:
    """It serves again within the time of a start and 5 s, as another process, and no worker of the old one is left."""
    with trial:
        trial.strike(lambda: os.kill(trial.before.server, number))
        # told to end, it answers for a moment more
        site.wait(lambda: not site.is_alive(trial.before.server), trial.struck, 60, "the old one is gone", 0.01)
        serving, full = trial.serving(60), trial.full_strength(60)
    after = site.footprint(trial.stack)
    assert after.server != trial.before.server
    assert not [pid for pid in trial.before.workers["minilm"] if site.is_alive(pid)]
    trial.row(
        order,
        f"JVM {name}",
        f"serves within a start ({plain_start_s:.1f} s) + {MORE_S:.0f} s",
        met=serving <= plain_start_s + MORE_S,
        serving_s=serving,
        full_s=full,
    )


def test_the_gateway_waits_for_the_jvm(stack: Stack, record: Callable[[Row], None]) -> None:
    """For clients of the gateway a killed JVM is a slow answer, and no error."""
    trial = Trial(stack, record, url=stack.settings.gateway_url("/v1/embeddings"))
    with trial:
        trial.strike(lambda: os.kill(trial.before.server, signal.SIGKILL))
        serving, full = trial.serving(60), trial.full_strength(60)
    slowest = max(one.done - one.sent for one in trial.load.rights())
    trial.row(
        4,
        "JVM kill -9, seen through the gateway",
        "no request fails",
        met=not trial.toll.failed,
        serving_s=serving,
        full_s=full,
        note=f"slowest answer {slowest:.1f} s",
    )


def overflow(stack: Stack) -> None:
    """Send, from 60 clients, valid requests of 3 MB each that take a while: more than 128 MB of heap can queue."""
    body = orjson.dumps({"input": ["word " * 100] * 32, "user": "a" * (3 << 20)})

    def send() -> None:
        with contextlib.suppress(requests.RequestException):
            requests.post(stack.url(), data=body, headers={"Content-Type": "application/json"}, timeout=60)

    clients = [threading.Thread(target=send) for _ in range(60)]
    for client in clients:
        client.start()
        time.sleep(0.05)  # all at once they are refused by a limit of another kind, on direct memory
    for client in clients:
        client.join()


def test_the_heap_overflows(fresh_stack: Callable[[], Stack], record: Callable[[Row], None]) -> None:
    """The JVM ends at its first OutOfMemoryError, and serves again within the time of a start and 5 s."""
    stack = fresh_stack()
    stack.environ["EMBEDKIT_JVM_HEAP_MB"] = "128"
    stack.embedkit("up")
    _, plain_s, _ = plain_start(stack, record)
    trial = Trial(stack, record)
    with trial:
        flood = threading.Thread(target=overflow, args=(stack,))
        flood.start()
        site.wait(lambda: not psutil.pid_exists(trial.before.server), time.monotonic(), 30, "the JVM ends", 0.01)
        trial.strike(lambda: None)
        serving, full = trial.serving(60), trial.full_strength(60)
    flood.join()
    said = (stack.settings.logs / "torchserve.log").read_text()
    assert "Terminating due to java.lang.OutOfMemoryError: Java heap space" in said
    trial.row(
        3,
        "JVM out of heap (128 MB, 60 bodies of 3 MB)",
        f"serves within a start ({plain_s:.1f} s) + {MORE_S:.0f} s",
        met=serving <= plain_s + MORE_S,
        serving_s=serving,
        full_s=full,
    )
