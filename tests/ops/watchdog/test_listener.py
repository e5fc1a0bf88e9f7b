"""supervisord's protocol, and the program under a real supervisord."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from ops.pause import Pause, pause
from ops.settings import Settings
from ops.supervisor.config import config_file, install
from ops.supervisor.control import Supervisor
from ops.supervisor.watchdog.ledger import ledger_file, read_ledger
from ops.supervisor.watchdog.listener import ticks
from ops.torchserve import leftovers

EVENT = "ver:3.0 server:supervisor serial:21 pool:watchdog poolserial:10 eventname:TICK_5 len:15\nwhen:1201063880"


def test_each_tick_is_answered_and_the_end_ends_it() -> None:
    """READY, a result for each event, READY again; nothing more once supervisord is gone."""
    said = io.StringIO()
    assert list(ticks(io.StringIO(EVENT * 2), said)) == [None, None]
    assert said.getvalue() == "READY\nRESULT 2\nOK" * 2 + "READY\n"


@pytest.fixture
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A real supervisord with the real watchdog; torchserve is not started, the exporter gives up at once."""
    settings = Settings(var=tmp_path_factory.mktemp("w"))
    settings.state.mkdir(parents=True)
    (settings.state / "settings.json").write_bytes(orjson.dumps(settings.model_dump(mode="json")))
    install(settings)
    file = config_file(settings)
    text = file.read_text()
    text = text.replace("autostart=true", "autostart=false", 1)  # torchserve
    text = text.replace('"-m" "ops.exporter"', '"-c" "raise SystemExit(1)" "ops.exporter"').replace(
        "startsecs=2\nstartretries=5\nstopwaitsecs=10\nkillasgroup=true\nredirect",
        "startsecs=2\nstartretries=0\nstopwaitsecs=10\nkillasgroup=true\nredirect",
    )
    file.write_text(text)
    supervisor = Supervisor(settings)
    supervisor.boot()
    yield settings
    supervisor.shut_down(20)
    leftovers.end(leftovers.programs(settings), 5)


def eventually(claim: object, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not claim():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.1)


def test_a_program_that_was_given_up_is_started_and_a_stopped_one_is_not(supervised: Settings) -> None:
    """FATAL is revived, counted and logged with its reason; STOPPED stays; a killed watchdog is back and counts on."""
    supervisor, log = Supervisor(supervised), supervised.logs / "watchdog.log"
    started = supervisor.program("exporter").started_at
    eventually(lambda: "start_program exporter: supervisord has given it up (FATAL)" in log.read_text())
    eventually(lambda: read_ledger(ledger_file(supervised)).actions["start_program", "exporter"] == 1)
    assert supervisor.program("exporter").started_at >= started
    assert supervisor.program("torchserve").state == "STOPPED"
    before = supervisor.program("watchdog").pid
    pause(supervised, Pause("a test", time.time()))
    os.kill(before, signal.SIGKILL)
    eventually(lambda: supervisor.program("watchdog").pid not in {0, before}, 10)
    eventually(lambda: read_ledger(ledger_file(supervised)).paused)
    eventually(lambda: "the watchdog is paused until `embedkit resume`: a test" in log.read_text())
    assert read_ledger(ledger_file(supervised)).actions["start_program", "exporter"] == 1
    assert "Traceback" not in log.read_text()


def test_it_ends_with_its_supervisord(tmp_path: Path) -> None:
    """Its stdin closed, it is gone: no orphan acts on a service that another one watches."""
    settings = Settings(var=tmp_path)
    settings.state.mkdir(parents=True)
    file = settings.state / "settings.json"
    file.write_bytes(orjson.dumps(settings.model_dump(mode="json")))
    command = [sys.executable, "-m", "ops.supervisor.watchdog", str(file)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "READY\n")
