"""A real supervisord with programs that only sleep: what is said of it, and what is done where it does not answer."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar
from xmlrpc.client import Fault

import psutil
import pytest
from supervisor.xmlrpc import Faults

from ops.down import Down, bring_down
from ops.errors import OpsError
from ops.settings import ROOT, Settings
from ops.status import look
from ops.supervisor import rpc
from ops.supervisor.config import config_file, pid_file, socket_file
from ops.supervisor.control import Supervisor, environment
from ops.supervisor.hint import make_hint
from ops.supervisor.process import end_unsupervised, silent, supervisords, unanswering

BINARY = Path(sys.executable).parent / "supervisord"
# Ends in order, after a moment: what is killed leaves no mark.
SLEEPER = """
import pathlib, signal, sys, time
def end(*_):
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
time.sleep(60)
"""

Found = TypeVar("Found")


def wait_for(look_for: Callable[[], Found], within_s: float = 10) -> Found:
    deadline = time.monotonic() + within_s
    while not (found := look_for()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.05)
    return found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not answer within half a second does not."""
    monkeypatch.setattr(rpc, "ANSWER_S", 0.5)


@pytest.fixture
def place() -> Iterator[Path]:
    """Short: a unix socket lies below it."""
    with tempfile.TemporaryDirectory(prefix="ek-") as folder:
        yield Path(folder)


@pytest.fixture
def settings(place: Path) -> Settings:
    """A var/ of its own with the configuration of two sleepers."""
    settings = Settings(var=place / "var", stop_timeout_s=5)
    for folder in (settings.etc, settings.run, settings.logs):
        folder.mkdir(parents=True)
    (place / "sleeper.py").write_text(SLEEPER)
    programs = "".join(
        f"[program:{name}]\ncommand={sys.executable} {place}/sleeper.py {place}/{name}.ended\nstartsecs=0\n"
        for name in ("one", "two")
    )
    config_file(settings).write_text(
        f"[unix_http_server]\nfile={socket_file(settings)}\n"
        f"[supervisord]\nlogfile={settings.logs}/supervisord.log\npidfile={pid_file(settings)}\n"
        f"directory={settings.run}\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n" + programs
    )
    return settings


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def boot(settings: Settings, *, config: str = "", environ: dict[str, str] | None = None) -> list[psutil.Process]:
    """supervisord and its two programs, running."""
    command = [str(BINARY), "-c", config or str(config_file(settings))]
    subprocess.run(command, env=environ or environment(), cwd=settings.var, check=True, timeout=20)
    root = psutil.Process(int(wait_for(lambda: pid_file(settings).exists() and pid_file(settings).read_text())))
    return [root, *wait_for(lambda: (len(below := root.children()) == 2 and below) or [])]


@pytest.fixture
def family(settings: Settings) -> Iterator[list[psutil.Process]]:
    with started(boot(settings)) as running:
        yield running


@contextlib.contextmanager
def started(processes: list[psutil.Process]) -> Iterator[list[psutil.Process]]:
    """Ends what a test has left."""
    try:
        yield processes
    finally:
        for one in processes:
            if one.is_running():
                one.kill()


def spoil(how: str, settings: Settings, root: psutil.Process) -> None:
    """Let supervisord live and not answer."""
    if how == "stopped":
        root.suspend()
        wait_for(lambda: root.status() == psutil.STATUS_STOPPED)
    elif how == "no socket":
        socket_file(settings).unlink()
    else:
        shutil.rmtree(settings.var)


SPOILT = pytest.mark.parametrize("how", ["stopped", "no socket", "no var"])


@SPOILT
def test_one_that_does_not_answer_is_named(how: str, settings: Settings, family: list[psutil.Process]) -> None:
    """With its pid, why, and what mends it, within the time that an answer has; one that answers is not."""
    root = family[0]
    assert Supervisor(settings).running()
    assert unanswering(settings) is None
    spoil(how, settings, root)
    began = time.monotonic()
    assert not Supervisor(settings).running()
    said = str(silent(settings))
    with pytest.raises(OpsError) as raised:
        Supervisor(settings).programs()
    assert time.monotonic() - began < 3
    assert str(raised.value) == said
    assert said.startswith(f"supervisord (pid {root.pid}) runs and does not answer")
    assert (f"kill -CONT {root.pid}" if how == "stopped" else "supervisor.sock is gone") in said
    assert "`embedkit up`" in said
    with pytest.raises(OpsError, match=f"pid {root.pid}"):
        Supervisor(settings).runs("torchserve")
    found = look(settings, {}, {})
    assert (found.supervisord_pid, found.problem) == (root.pid, said)


@SPOILT
def test_down_ends_it_in_order(how: str, settings: Settings, family: list[psutil.Process], place: Path) -> None:
    """`down` leaves nothing of it running, its programs could end themselves, and a second `down` finds nothing."""
    spoil(how, settings, family[0])
    said: list[str] = []
    assert bring_down(settings, said.append) == Down(ran=True)
    assert not any(map(is_alive, family))
    assert f"ending supervisord (pid {family[0].pid})" in said[0]
    assert {one.name for one in place.glob("*.ended")} == {"one.ended", "two.ended"}
    assert bring_down(settings, said.append) == Down(ran=False)


def test_two_are_both_ended(settings: Settings, family: list[psutil.Process]) -> None:
    """Where an earlier kit has started a second one beside one without a socket, `down` ends both."""
    socket_file(settings).unlink()
    with started(boot(settings)) as second:
        assert bring_down(settings, lambda _: None) == Down(ran=True)
        assert not any(map(is_alive, (*family, *second)))


def test_one_that_does_not_end_is_killed(settings: Settings, family: list[psutil.Process]) -> None:
    """After the time that its programs have to stop; they go with it."""
    family[1].suspend()  # supervisord's SIGTERM does not reach it, and it would wait 10 s
    spoil("stopped", settings, family[0])
    ended = end_unsupervised(settings, lambda _: None, wait_s=1)
    assert family[0].pid in ended
    assert not any(map(is_alive, family))


@pytest.mark.needs("root")  # which alone can become another user
def test_another_users_is_named(settings: Settings, family: list[psutil.Process]) -> None:
    """It is not ours to end: whose it is, is said."""
    socket_file(settings).unlink()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            end_unsupervised(settings, lambda _: None)
        except OpsError as error:
            os._exit(0 if f"(pid {family[0].pid}) is root's" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert is_alive(family[0])


def test_it_is_known_however_it_was_started(settings: Settings, place: Path) -> None:
    """By a relative path or by way of a link; a pager, an editor and sudo, which only name it, are none."""
    (place / "link").symlink_to(settings.var)
    for config in ("etc/supervisord.conf", str(place / "link" / "etc" / "supervisord.conf")):
        with started(boot(settings, config=config)) as running:
            assert [one.pid for one in supervisords(settings)] == [running[0].pid]
            assert supervisords(Settings(var=place / "another")) == []
            end_unsupervised(settings, lambda _: None)
    for first in ("less", "sudo"):
        words = [first, str(BINARY), "-c", str(config_file(settings))]
        with subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE) as other:
            assert supervisords(settings) == []
            other.kill()


def test_supervisorctl_does_not_wait_for_it(
    settings: Settings, family: list[psutil.Process], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its plugin ends it with what is wrong and LSB's status for that, in place of a hang or "not running"."""
    controller = SimpleNamespace(options=SimpleNamespace(serverurl=f"unix://{socket_file(settings)}"))
    make_hint(controller)
    spoil("stopped", settings, family[0])
    with pytest.raises(SystemExit) as ended:
        make_hint(controller)
    assert ended.value.code == 4
    assert f"kill -CONT {family[0].pid}" in capsys.readouterr().err


def test_make_down_without_an_environment(settings: Settings, place: Path) -> None:
    """With .venv gone it still sees a supervisord, whatever became of its files, and refuses with the way out."""
    down = ["make", "-s", "-C", str(place), "-f", str(ROOT / "Makefile"), "down"]
    with started(boot(settings)) as running:
        shutil.rmtree(settings.var)
        refused = subprocess.run(down, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert f"the service runs (/proc/{running[0].pid}/cmdline)" in refused.stderr
        end_unsupervised(settings, lambda _: None)
    assert "nothing to stop" in subprocess.run(down, capture_output=True, text=True, check=True).stdout


def test_warnings_that_are_errors_do_not_reach_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under PYTHONWARNINGS=error supervisord fails at every call: it is started without. One that was not, is ended."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with started(boot(settings)) as running:
        assert Supervisor(settings).running()
        Supervisor(settings).shut_down(10)
        assert not any(map(is_alive, running))
    with started(boot(settings, environ=dict(os.environ))) as running:
        assert "nothing comes back from its socket" in str(unanswering(settings))
        assert bring_down(settings, lambda _: None) == Down(ran=True)
        assert not any(map(is_alive, running))


def test_a_call_has_its_time(settings: Settings) -> None:
    """A socket whose listener never answers costs the time of an answer, and is told in words."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_file(settings)))
        listener.listen()
        began = time.monotonic()
        with pytest.raises(OpsError, match="TimeoutError"):
            Supervisor(settings).programs()
        assert 0.4 < time.monotonic() - began < 3


def test_a_program_has_its_time_to_stop(
    settings: Settings, family: list[psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop is waited for until the program is gone, for longer than an answer."""
    monkeypatch.setattr(rpc, "ANSWER_S", 0.1)  # the sleepers take 0.3 s
    Supervisor(settings).stop("two")
    assert [one.name for one in Supervisor(settings).programs() if not one.alive] == ["two"]


@pytest.mark.parametrize(
    ("code", "said"), [(Faults.SHUTDOWN_STATE, "is stopping"), (Faults.CANT_REREAD, "refuses .*supervisord.log")]
)
def test_what_supervisord_refuses_is_told_in_words(code: int, said: str, settings: Settings) -> None:
    """One that is about to end, which to try again helps, is told from one that does not do what is asked."""
    with pytest.raises(OpsError, match=said), Supervisor(settings)._answering():
        raise Fault(code, "WHY")
