"""The pid file that `torchserve --stop` reads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.torchserve import pidfile


@pytest.fixture(autouse=True)
def _private_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize("before", [None, "", "not a pid", "999999999"])
def test_a_missing_empty_or_stale_file_is_taken(before: str | None) -> None:
    """Our pid is written over nothing, rubbish, or a dead process's pid."""
    if before is not None:
        pidfile.pid_file().write_text(before)
    assert pidfile.claim(os.getpid()) is None
    assert int(pidfile.pid_file().read_text()) == os.getpid()


def test_another_live_torchserve_keeps_its_file() -> None:
    """A file that names somebody else's running TorchServe is not overwritten, and the reason is given."""
    stand_in = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "org.pytorch.serve.ModelServer"])
    try:
        pidfile.pid_file().write_text(str(stand_in.pid))
        refused = pidfile.claim(os.getpid())
        assert refused is not None
        assert str(stand_in.pid) in refused
        assert pidfile.pid_file().read_text() == str(stand_in.pid)
    finally:
        stand_in.kill()
        stand_in.wait()


def test_only_our_own_file_is_removed() -> None:
    """Release removes the file of one of our pids or of a dead process, and no other."""
    pidfile.pid_file().write_text(str(os.getpid()))
    pidfile.release({1, 2})
    assert pidfile.pid_file().exists()
    pidfile.release({os.getpid()})
    assert not pidfile.pid_file().exists()
    pidfile.pid_file().write_text("999999999")
    pidfile.release(set())
    assert not pidfile.pid_file().exists()
