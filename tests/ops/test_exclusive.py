"""The lock between the commands that change what runs."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ops.errors import OpsError
from ops.exclusive import at_once, exclusive, holder, together

HOLD = """
import sys
from pathlib import Path
from ops.exclusive import exclusive
sys.argv = ["/somewhere/embedkit", "deploy", "minilm"]
with exclusive(Path(@), print):
    print("holds", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process has the lock, and ends with the block."""
    script = HOLD.replace("@", repr(str(lock)))
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holds\n"
        try:
            yield other
        finally:
            other.kill()


def stop(process: subprocess.Popen[str]) -> None:
    """As Ctrl-Z does; returns when it stands still."""
    os.kill(process.pid, signal.SIGSTOP)
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)


def test_the_second_names_the_first_and_waits(tmp_path: Path) -> None:
    """Command, pid and how long; a killed holder holds nothing, and its name is not told any more."""
    lock, said = tmp_path / "lock", list[str]()
    with held(lock) as first:
        found = holder(lock)
        assert found is not None
        assert (found.name, found.stopped) == (f"embedkit deploy minilm (pid {first.pid})", False)
        os.utime(lock, (time.time() - 90, time.time() - 90))
        with at_once(lock) as alone:
            assert not alone

        def say(line: str) -> None:
            said.append(line)
            first.kill()

        with exclusive(lock, say):
            (line,) = said
            assert line.startswith(f"embedkit deploy minilm (pid {first.pid}) has been at work here for 9")
            assert line.endswith(" s; waiting for it, 600 s at most")
    assert holder(lock) is None
    with at_once(lock) as alone:
        assert alone


def test_a_wait_has_its_end(tmp_path: Path) -> None:
    """After its time it ends with the holder's name and what ends that."""
    with held(tmp_path / "lock") as first:
        waited = rf"deploy minilm \(pid {first.pid}\) .* waits no longer than 0 s for it: `kill {first.pid}` ends it"
        with pytest.raises(OpsError, match=waited), exclusive(tmp_path / "lock", print, wait_s=0.3):
            pass


@pytest.mark.timeout(30)
def test_nobody_waits_for_one_that_is_stopped(tmp_path: Path) -> None:
    """Ctrl-Z: it is named as such at once, with what lets it go on and what ends it; that what it says is true."""
    lock = tmp_path / "lock"
    with held(lock) as first:
        stop(first)
        going = rf"deploy minilm \(pid {first.pid}\) is stopped \(Ctrl-Z or SIGSTOP\).*`kill -CONT {first.pid}` lets"
        with pytest.raises(OpsError, match=going) as said, exclusive(lock, print):
            pass
        end = str(said.value).rpartition(", `")[2].partition("`")[0]
        subprocess.run(end, shell=True, check=True)
        with exclusive(lock, print):
            assert first.wait(10) == -signal.SIGTERM


def test_those_together_keep_one_alone_out(tmp_path: Path) -> None:
    """Two hold it at once, and at_once has it only after both."""
    lock = tmp_path / "lock"
    with together(lock), together(lock), at_once(lock) as alone:
        assert not alone
    with at_once(lock) as alone:
        assert alone
