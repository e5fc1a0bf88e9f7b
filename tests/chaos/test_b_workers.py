"""A worker dies, hangs, or cannot be loaded; or all hang with their server."""

import os
import signal
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from archives.snapshot import hash_file
from ops.desired import desired_file, read_models, write_models
from ops.torchserve import leftovers
from tests.chaos import site
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

FULL_STRENGTH_S = 15.0
NOTICED_S = 2.0
HANG_S = 30.0
MENDED_S = 60.0
QUIET_S = 15.0
TRIED_S = 90.0
# A fault that another server has as well: nothing loads while this file is there.
FAILS = """
    def initialize(self, context):
        import pathlib

        if pathlib.Path({flag!r}).exists():
            raise RuntimeError("broken by a test")
        super().initialize(context)
"""


def test_one_of_two_workers_is_killed(trial: Trial) -> None:
    """Only what its batch held is lost, nothing is refused, and the full strength is back within 15 s."""
    described = site.loaded(trial.stack)
    assert described is not None
    with trial:
        victim = min(trial.before.workers["minilm"])
        trial.strike(lambda: os.kill(victim, signal.SIGKILL))
        serving = trial.serving(60)
        full = trial.full_strength(60, without=frozenset({victim}))
    cost = trial.toll
    one_batch = cost.failed <= described.batch_size and cost.trouble_s < NOTICED_S
    assert site.footprint(trial.stack).server == trial.before.server
    trial.row(
        5,
        "worker kill -9, one of two",
        f"lost: its batch alone; full strength within {FULL_STRENGTH_S:.0f} s",
        # what came between the kill and its being noticed may still be given to it
        met=full <= FULL_STRENGTH_S and not cost.refused and one_batch,
        serving_s=serving,
        full_s=full,
    )


@pytest.mark.parametrize(("order", "connections", "when"), [(6, 0, "idle"), (7, 8, "under load")])
def test_a_worker_hangs(stack: Stack, record: Callable[[Row], None], order: int, connections: int, when: str) -> None:
    """One of two stopped workers is replaced within 30 s, by its own server, and every answer is right."""
    trial = Trial(stack, record, connections=connections)
    with trial:
        victim = min(trial.before.workers["minilm"])
        trial.strike(lambda: os.kill(victim, signal.SIGSTOP))
        full = trial.full_strength(150, without=frozenset({victim}))
        serving = trial.serving(150)
    assert site.footprint(stack).server == trial.before.server
    assert not psutil.pid_exists(victim)
    trial.row(
        order,
        f"worker SIGSTOP, one of two, {when}",
        f"replaced and serving within {HANG_S:.0f} s",
        met=serving <= HANG_S,
        serving_s=serving,
        full_s=full,
    )


def test_the_jvm_hangs(trial: Trial) -> None:
    """A stopped JVM is replaced and serves within 30 s."""
    with trial:
        trial.strike(lambda: os.kill(trial.before.server, signal.SIGSTOP))
        serving, full = trial.serving(150), trial.full_strength(150)
    assert site.footprint(trial.stack).server != trial.before.server
    trial.row(8, "JVM SIGSTOP", f"serves within {HANG_S:.0f} s", met=serving <= HANG_S, serving_s=serving, full_s=full)


def break_at_will(archive: Path, flag: Path) -> str:
    """Let its loads fail while a file is there, and TorchServe give the model up for good 5 s after the first failure,
    where the kit's archives say 20 days; returns the archive's digest, which is then another."""
    beside = archive.with_suffix(".short")
    with zipfile.ZipFile(archive) as kept, zipfile.ZipFile(beside, "w") as made:
        for item in kept.infolist():
            content = kept.read(item)
            if item.filename == "model-config.yaml":
                lines = content.decode().splitlines()
                assert any(line.startswith("maxRetryTimeoutInSec:") for line in lines)
                lines = ["maxRetryTimeoutInSec: 5" if "maxRetryTimeoutInSec" in line else line for line in lines]
                content = "\n".join(lines).encode()
            elif item.filename == "embedkit_entry.py":
                content += FAILS.format(flag=str(flag)).encode()
            made.writestr(item, content)
    beside.replace(archive)
    return hash_file(archive).sha256


def test_workers_die_at_every_load_until_mended(
    fresh_stack: Callable[[], Stack], record: Callable[[Row], None]
) -> None:
    """A model that TorchServe has given up, as its workers died at every load, serves within 60 s of being mended, and
    nobody has to do anything: the watchdog's tries before that have failed as well."""
    stack = fresh_stack()
    flag = stack.folder / "broken"
    stack.embedkit("up")
    (one,) = read_models(desired_file(stack.settings)).values()
    changed = replace(one, sha256=break_at_will(stack.settings.served / one.archive, flag))
    write_models(desired_file(stack.settings), {one.model: changed})
    server = stack.jvm_pid()
    os.kill(server, signal.SIGKILL)
    site.wait(
        lambda: not psutil.pid_exists(server) and site.at_full_strength(stack), time.monotonic(), 90, "it is back"
    )
    trial, acted = Trial(stack, record), site.watchdog_actions(stack)
    with trial:
        stack.embedkit("pause", "until", "TorchServe", "has", "given", "up")
        flag.touch()
        for pid in trial.before.workers["minilm"]:
            os.kill(pid, signal.SIGKILL)
        given_up_s = left_alone(stack)
        stack.embedkit("resume")
        time.sleep(TRIED_S)
        assert site.serves(stack) is False
        assert (site.watchdog_actions(stack) - acted)["revive_model", "minilm"] >= 1
        trial.strike(flag.unlink)
        serving, full = trial.serving(200), trial.full_strength(200)
    trial.row(
        9,
        f"workers die at every load until TorchServe gives the model up, and for {TRIED_S:.0f} s after; then mended",
        f"serves within {MENDED_S:.0f} s of mending, without a hand",
        met=serving <= MENDED_S,
        serving_s=serving,
        full_s=full,
        note=f"given up after {given_up_s:.0f} s",
    )


def left_alone(stack: Stack) -> float:
    """Seconds until TorchServe has tried to start a worker for the last time.

    Its pauses are 1, 1, 2, 3, 5, 8, 13, 21 s and so on, with a load of some seconds before each: one of 15 s within the
    first 45 s is no pause, but its end.
    """
    began = quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_S:
        assert time.monotonic() - began < 45, "TorchServe still starts workers"
        running = leftovers.our_processes(stack.settings)
        if any(leftovers.is_worker(process.info["cmdline"], stack.settings) for process in running):
            quiet_since = time.monotonic()
        time.sleep(0.1)
    return quiet_since - began
