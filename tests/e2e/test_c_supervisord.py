"""A supervisord that lives and cannot be spoken to: its socket is gone, or it is stopped. Each test leaves the service
up and ends with the vector that came before."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from env.ports import port_is_free
from ops.supervisor.config import pid_file, socket_file
from tests.e2e.stack import Stack

pytestmark = pytest.mark.e2e

ANSWER_S = 20.0


def family(stack: Stack) -> list[psutil.Process]:
    """supervisord, which is the first, and whatever descends from it: known without the kit's own rules."""
    supervisord = psutil.Process(int(pid_file(stack.settings).read_text()))
    return [supervisord, *supervisord.children(recursive=True)]


def supervisords(stack: Stack) -> list[int]:
    conf = str(stack.settings.etc / "supervisord.conf")
    return [one.pid for one in psutil.process_iter(["cmdline"]) if conf in (one.info["cmdline"] or [])]


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def nothing_left(stack: Stack, before: list[psutil.Process]) -> bool:
    return not any(map(is_alive, before)) and all(
        port_is_free("127.0.0.1", port) for port in stack.settings.ports.values()
    )


def one_new_service(stack: Stack, before: list[psutil.Process]) -> bool:
    """One supervisord that has all there is below it, and nothing of what was before."""
    (root,) = supervisords(stack)
    below = {root, *(one.pid for one in psutil.Process(root).children(recursive=True))}
    return not any(map(is_alive, before)) and {one.pid for one in stack.processes()} <= below


def remove(folder: Path) -> None:
    """`rm -rf`, again where a process has written into it meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def test_without_its_socket_it_is_named_and_ended(stack: Stack) -> None:
    """status names supervisord and what is gone, while the model serves on; `down` leaves no process and no port."""
    expected, before = stack.embed(), family(stack)
    socket_file(stack.settings).unlink()
    found = stack.embedkit("status", check=False)
    assert found.returncode == 1
    assert f"supervisord (pid {before[0].pid}) runs and does not answer (its socket" in found.stderr
    assert "embedkit up" in found.stderr
    assert "minilm" in found.stdout
    assert f"pid {before[0].pid}" in stack.embedkit("doctor", check=False).stdout
    assert f"pid {before[0].pid}" in stack.supervisorctl("status", check=False).stderr
    assert f"pid {before[0].pid}" in stack.embedkit("down", "minilm", check=False).stderr
    stack.embedkit("down", "--drain")
    assert nothing_left(stack, before)
    stack.embedkit("up")
    stack.recovered(expected, 5)


def test_without_its_socket_up_replaces_it(stack: Stack) -> None:
    """`up` never starts a second supervisord beside the first: it ends that with its programs, and serves."""
    expected, before = stack.embed(), family(stack)
    socket_file(stack.settings).unlink()
    assert f"pid {before[0].pid}" in stack.embedkit("up").stderr
    assert one_new_service(stack, before)
    stack.recovered(expected, 5)


@pytest.mark.parametrize("command", ["down", "up"])
def test_without_any_of_its_files(stack: Stack, command: str) -> None:
    """After `rm -rf var` the service is found all the same: `down` ends it, `up` replaces it."""
    expected, before = stack.embed(), family(stack)
    remove(stack.settings.var)
    stack.embedkit(command)
    if command == "down":
        assert nothing_left(stack, before)
        stack.embedkit("up")
    assert one_new_service(stack, before)
    stack.recovered(expected, 5)


def test_stopped_it_is_named_and_ended(stack: Stack) -> None:
    """supervisord stopped (SIGSTOP): status says so within seconds, with the pid and the signal that lets it go on;
    `down` ends all of it in the time that its programs have to stop."""
    expected, before = stack.embed(), family(stack)
    os.kill(before[0].pid, signal.SIGSTOP)
    try:
        found = stack.run("embedkit", "status", check=False, timeout=ANSWER_S)
        assert f"kill -CONT {before[0].pid}" in found.stderr
        began = time.monotonic()
        stack.run("embedkit", "down", timeout=stack.settings.stop_timeout_s + 30)
        print(f"recovery: supervisord SIGSTOP, down: {time.monotonic() - began:.1f} s")
        assert nothing_left(stack, before)
    finally:
        if before[0].is_running():
            os.kill(before[0].pid, signal.SIGCONT)
    stack.embedkit("up")
    stack.recovered(expected, 5)


def test_stopped_it_is_replaced_by_up(stack: Stack) -> None:
    """`up` on a stopped supervisord ends it and its programs, and serves."""
    expected, before = stack.embed(), family(stack)
    os.kill(before[0].pid, signal.SIGSTOP)
    try:
        stack.run("embedkit", "up", timeout=150)
    finally:
        if before[0].is_running():
            os.kill(before[0].pid, signal.SIGCONT)
    assert one_new_service(stack, before)
    stack.recovered(expected, 5)


def test_warnings_that_are_errors_do_not_reach_it(stack: Stack) -> None:
    """Brought up under PYTHONWARNINGS=error, the service serves, and `down` ends it."""
    expected = stack.embed()
    stack.embedkit("down")
    stack.environ["PYTHONWARNINGS"] = "error"
    try:
        stack.embedkit("up")
    finally:
        del stack.environ["PYTHONWARNINGS"]
    stack.recovered(expected, 5)
    before = family(stack)
    stack.run("embedkit", "down", timeout=stack.settings.stop_timeout_s + 30)
    assert nothing_left(stack, before)
    stack.embedkit("up")
    stack.recovered(expected, 5)
