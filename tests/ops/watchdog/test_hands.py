"""What the watchdog's hands refuse: whatever is not ours, or no longer as it was seen."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ops.exclusive import at_once
from ops.settings import Settings
from ops.supervisor.watchdog.eyes import process_of, worker_processes
from ops.supervisor.watchdog.hands import Hands, OutdatedError
from ops.supervisor.watchdog.ledger import Ledger
from ops.supervisor.watchdog.look import Action, Process
from ops.torchserve.management import Loaded, Management

SLEEPER = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", "--sock-name"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path)


@pytest.fixture
def sleepers(settings: Settings, tmp_path: Path) -> Iterator[tuple[psutil.Process, psutil.Process]]:
    """A worker of ours, and one of another TorchServe."""
    sockets = (settings.temp / ".ts.sock.9000", tmp_path / "elsewhere" / ".ts.sock.9000")
    started = [subprocess.Popen([*SLEEPER, str(socket)], stdout=subprocess.PIPE) for socket in sockets]
    for one in started:
        assert one.stdout is not None
        one.stdout.readline()
    yield psutil.Process(started[0].pid), psutil.Process(started[1].pid)
    for one in started:
        one.kill()
        one.communicate()


def hands(settings: Settings, ledger: Ledger | None = None) -> Hands:
    return Hands(settings, ledger or Ledger(), lambda: None)


def end(found: Process) -> Action:
    return Action("end_worker", "minilm", "a test", found)


def test_only_our_worker_as_it_was_seen_is_ended(
    settings: Settings, sleepers: tuple[psutil.Process, psutil.Process]
) -> None:
    """A stranger's lives, as does one whose number another process had when it was seen; ours is gone."""
    ours, strangers = sleepers
    for found in (Process(strangers.pid, strangers.create_time()), Process(ours.pid, ours.create_time() - 1)):
        with pytest.raises(OutdatedError):
            hands(settings).act(end(found))
    assert (ours.is_running(), strangers.is_running()) == (True, True)
    hands(settings).act(end(Process(ours.pid, ours.create_time())))
    ours.wait(5)
    with pytest.raises(OutdatedError):
        hands(settings).act(end(Process(ours.pid, 1.0)))


def test_workers_are_seen_by_their_ids_and_states(
    settings: Settings, sleepers: tuple[psutil.Process, psutil.Process]
) -> None:
    """Children of the server whose socket is ours, by TorchServe's id; one that is stopped is seen as such."""
    ours, _ = sleepers
    server = process_of(psutil.Process())
    assert server is not None
    assert worker_processes(settings, server) == {"9000": Process(ours.pid, ours.create_time())}
    ours.suspend()
    os.waitid(os.P_PID, ours.pid, os.WSTOPPED | os.WNOWAIT)
    assert worker_processes(settings, server) == {"9000": Process(ours.pid, ours.create_time(), stopped=True)}
    ours.kill()
    os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT)
    assert worker_processes(settings, server) == {}


@pytest.mark.parametrize(("min_workers", "scaled"), [(0, [("minilm", "1.0", 2)]), (3, [])])
def test_a_revival_that_was_cut_short_is_finished(
    min_workers: int, scaled: list[tuple[str, str, int]], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that a watchdog left at 0 workers has its number again; one that somebody has scaled since is left."""
    seen: list[tuple[str, str, int]] = []
    loaded = Loaded("minilm", "1.0", "minilm.mar", min_workers, 32, (), 100, 0)
    monkeypatch.setattr(Management, "describe", lambda _self, _model: [loaded])
    monkeypatch.setattr(Management, "scale", lambda _self, *asked: seen.append(asked))
    ledger = Ledger(reviving={"minilm": ("1.0", 2)})
    hands(settings, ledger).finish_reviving()
    assert seen == scaled
    assert ledger.reviving == {}


def test_a_lock_that_another_holds_is_not_waited_for(tmp_path: Path) -> None:
    """While `embedkit up` is at work the watchdog goes on looking, and has the lock afterwards."""
    lock = tmp_path / "up.lock"
    with at_once(lock) as first, at_once(lock) as second:
        assert (first, second) == (True, False)
    with at_once(lock) as free:
        assert free
