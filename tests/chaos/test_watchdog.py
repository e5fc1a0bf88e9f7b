"""The watchdog without a load: a loop, when it keeps its hands off, and what it does after an operator."""

import os
import signal
import time

import psutil
import pytest
import requests

from ops.supervisor.watchdog.eyes import PROBE_S
from ops.supervisor.watchdog.ledger import ledger_file, read_ledger
from ops.supervisor.watchdog.look import Kind
from ops.supervisor.watchdog.policy import HANG_S
from tests.e2e.load import embed_call, send, texts
from tests.e2e.stack import BIN, Stack

pytestmark = pytest.mark.chaos

BAR_S = 30.0
MODULES = {"exporter": "ops.exporter", "watchdog": "ops.supervisor.watchdog"}


def said(stack: Stack) -> str:
    return (stack.settings.logs / "watchdog.log").read_text()


def actions(stack: Stack, kind: Kind, target: str) -> int:
    return read_ledger(ledger_file(stack.settings)).actions[kind, target]


def ours(stack: Stack, word: str) -> list[psutil.Process]:
    return [one for one in stack.processes() if word in " ".join(one.cmdline())]


def replaced(stack: Stack, victim: int, wanted: int, within_s: float = BAR_S) -> float:
    """Seconds until the model is at full strength without that worker."""
    started = time.monotonic()
    stack.eventually(lambda: len(stack.worker_pids() - {victim}) == wanted, within_s)
    return time.monotonic() - started


def report(what: str, seconds: float) -> None:
    print(f"watchdog: {what}: {seconds:.1f} s")


LOOPS_ONCE = """
    def inference(self, items):
        import pathlib

        try:
            pathlib.Path({flag!r}).unlink()
        except FileNotFoundError:
            super().inference(items)
        else:
            while True:
                pass
"""


def test_a_worker_that_loops_on_an_idle_server(stack: Stack) -> None:
    """Not stopped but busy for ever, at a canary, which the other workers go on answering: it alone is replaced; told
    with its reason and as a metric."""
    flag = stack.folder / "loop"
    for entry in (stack.settings.temp / "models").glob("*/embedkit_entry.py"):
        entry.write_text(entry.read_text() + LOOPS_ONCE.format(flag=str(flag)))
    before, ended = stack.full_strength(), actions(stack, "end_worker", "minilm")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    stack.eventually(lambda: len(stack.worker_pids() - before) == len(before), 3 * BAR_S)
    workers = stack.worker_pids()
    flag.touch()
    stack.eventually(lambda: not flag.exists(), 10)
    started = time.monotonic()
    stack.eventually(lambda: len(workers - stack.worker_pids()) == 1, BAR_S)
    stack.eventually(lambda: len(stack.worker_pids()) == len(workers), BAR_S)
    report("worker that loops, idle", time.monotonic() - started)
    (victim,) = workers - stack.worker_pids()
    assert f"end_worker minilm pid {victim}: it has been at a known short text for more than 10 s" in said(stack)
    shown = requests.get(stack.settings.exporter_url("/metrics"), timeout=10).text
    assert f'watchdog_actions_total{{action="end_worker",target="minilm"}} {ended + 1}.0' in shown


def test_load_is_no_illness(stack: Stack) -> None:
    """A queue that overflows for 30 s: requests are refused, no worker is ended, no server restarted."""
    workers, server = stack.full_strength(), stack.jvm_pid()
    calls = [embed_call("minilm", [text]) for text in texts(400, 120)]
    seen = send(stack.settings.inference_port, calls, 400, time.monotonic() + 30)
    assert seen.statuses["/predictions/minilm", 503] > 0
    assert (stack.full_strength(), stack.jvm_pid()) == (workers, server)


def test_a_slow_long_request_is_no_hang(stack: Stack) -> None:
    """Batches that take a worker far longer than a probe waits, or a known text may take, are answered."""
    workers = stack.full_strength()
    calls = [embed_call("minilm", texts(500, 250, seed)) for seed in range(4 * len(workers))]
    seen = send(stack.settings.inference_port, calls, len(calls))
    report("the long requests took", seen.quantile(1))
    assert seen.quantile(1) > 1.5 * max(PROBE_S, HANG_S)
    assert seen.statuses["/predictions/minilm", 200] == len(calls)
    assert stack.full_strength() == workers


def test_an_operators_stop_wins(stack: Stack) -> None:
    """Stopped, TorchServe stays stopped, however long the watchdog looks."""
    expected = stack.embed()
    stack.supervisorctl("stop", "torchserve")
    time.sleep(25)
    assert "STOPPED" in stack.supervisorctl("status", "torchserve", check=False).stdout
    stack.supervisorctl("start", "torchserve")
    stack.recovered(expected, 60)


def test_a_pause_is_kept_and_ends(stack: Stack) -> None:
    """While paused a stopped worker stays; status says so; `resume` lets the watchdog at it."""
    workers = stack.full_strength()
    assert "for 30 more min: a look inside" in stack.embedkit("pause", "--for", "30m", "a", "look", "inside").stdout
    victim = min(workers)
    os.kill(victim, signal.SIGSTOP)
    time.sleep(20)
    assert psutil.Process(victim).status() == psutil.STATUS_STOPPED
    assert "a look inside" in stack.embedkit("status", check=False).stderr
    assert "acts again" in stack.embedkit("resume").stdout
    report("worker SIGSTOP, after a pause", replaced(stack, victim, len(workers), 2 * BAR_S))


def test_a_server_that_was_given_up_comes_back(stack: Stack) -> None:
    """FATAL, as its desired state cannot be read; with that mended it serves without a hand."""
    expected, file = stack.embed(), stack.settings.state / "desired.json"
    aside = file.with_suffix(".aside")
    file.rename(aside)
    file.mkdir()
    os.kill(stack.jvm_pid(), signal.SIGKILL)
    stack.eventually(lambda: "FATAL" in stack.supervisorctl("status", "torchserve", check=False).stdout, 90)
    file.rmdir()
    aside.rename(file)
    report("FATAL, mended", stack.recovered(expected, 90))
    assert actions(stack, "start_program", "torchserve") > 0


def test_a_second_supervisord_finds_a_clean_place(stack: Stack) -> None:
    """supervisord killed, another one started by hand: one server, one of each program, no orphan, the same vector."""
    expected, before = stack.embed(), stack.jvm_pid()
    os.kill(int((stack.settings.run / "supervisord.pid").read_text()), signal.SIGKILL)
    stack.eventually(lambda: ours(stack, MODULES["watchdog"]) == [], 10)
    started = time.monotonic()
    stack.run(str(BIN / "supervisord"), "-c", str(stack.settings.etc / "supervisord.conf"))
    stack.eventually(lambda: not psutil.pid_exists(before), 30)
    stack.recovered(expected, 60)
    report("supervisord kill -9, started by hand", time.monotonic() - started)
    supervisord = int((stack.settings.run / "supervisord.pid").read_text())
    parents = [supervisord] * len(MODULES)
    stack.eventually(lambda: [one.ppid() for module in MODULES.values() for one in ours(stack, module)] == parents, 30)
    assert {one.ppid() for one in ours(stack, "--sock-name")} == {stack.jvm_pid()}
