"""The systemd unit's own command lines, run by hand, as systemd is not there to do it."""

import contextlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from ops.systemd.unit import Place, commands, unit
from tests import patience
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@contextlib.contextmanager
def started(stack: Stack, text: str) -> Iterator[subprocess.Popen[bytes]]:
    """What systemd does at a start: ExecStartPre, then ExecStart; at the end a SIGTERM to the main process alone."""
    prepare, *_ = commands(text, "ExecStartPre")
    (command,) = commands(text, "ExecStart")
    stack.run(*shlex.split(prepare))
    log = (stack.folder / "unit.log").open("ab")
    with log, subprocess.Popen(shlex.split(command), env=stack.environ, stdout=log, stderr=log) as main:
        try:
            yield main
        finally:
            main.send_signal(signal.SIGTERM)
            main.wait(patience.scaled(60))


@pytest.fixture
def stack(deployment: Stack, first_up: str) -> Iterator[Stack]:
    """The deployment, down; up again for whoever comes next."""
    assert first_up
    deployment.embedkit("down")
    try:
        yield deployment
    finally:
        deployment.embedkit("up")


def test_the_unit_serves_and_comes_back_after_kill_9(stack: Stack) -> None:
    """ExecStart serves what was up before, and ExecStartPost ends when it does; killed with -9 and started again there
    is one server, no orphan, and the same vector; a unit beside a running service refuses; a stop leaves nothing."""
    place = Place(Path(sys.prefix), Path(sys.base_prefix), stack.folder, None)
    text = unit(stack.settings, "root", place, firewall=False)
    with started(stack, text) as main:
        (ready,) = commands(text, "ExecStartPost")
        stack.run(*shlex.split(ready))
        expected = stack.embed()  # and no moment later
        assert requests.get(stack.settings.exporter_url("/healthz"), timeout=5).status_code == 200
        beside = stack.run(*shlex.split(next(iter(commands(text, "ExecStartPre")))), check=False)
        assert beside.returncode == 1
        assert f"pid {main.pid}" in beside.stderr
        before = {one.pid for one in stack.processes()}
        main.kill()
        main.wait()
        with started(stack, text) as again:
            stack.recovered(expected, within_s=60)
            assert again.poll() is None
            after = {one.pid for one in stack.processes()}
            assert not before & after
            assert stack.jvm_pid() in after
            assert sum("supervisord" in " ".join(one.cmdline()) for one in stack.processes()) == 1
    stack.eventually(lambda: stack.processes() == [])
