"""The pid file that `torchserve --stop` looks for: it knows a server by nothing else."""

import contextlib
import tempfile
from pathlib import Path

import psutil

from ops.torchserve.leftovers import SERVER_CLASS


def pid_file() -> Path:
    """Where TorchServe's own launcher keeps it: one file a temp folder, so one server a user and machine."""
    return Path(tempfile.gettempdir()) / ".model_server.pid"


def claim(pid: int) -> str | None:
    """Write our pid, unless the file names another live TorchServe; returns why it was not written, or None."""
    file = pid_file()
    try:
        other = int(file.read_text())
        if other != pid and SERVER_CLASS in psutil.Process(other).cmdline():
            return f"{file} names another TorchServe, pid {other}: `torchserve --stop` will stop that one, not this"
    except (OSError, ValueError, psutil.Error):
        pass  # none, empty or stale
    try:
        file.write_text(str(pid))
    except OSError as error:
        return f"{file} cannot be written ({error.strerror}): `torchserve --stop` will not find this server"
    return None


def release(pids: set[int]) -> None:
    """Remove the file if it names one of these processes, or one that is no more."""
    with contextlib.suppress(OSError, ValueError):
        named = int(pid_file().read_text())
        if named in pids or not psutil.pid_exists(named):
            pid_file().unlink()
