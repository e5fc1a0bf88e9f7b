"""Locks between processes, which end with their holder. While a command holds one, its name is in the lock's file."""

import contextlib
import fcntl
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from ops.errors import OpsError
from ops.settings import Settings

# Longer than a model's default time to load and a drain take together.
WAIT_S = 600.0
POLL_S = 0.1
_WRITTEN = re.compile(r".* \(pid (\d+)\)", re.DOTALL)


def lock_file(settings: Settings) -> Path:
    """What a command holds while it changes what is served."""
    return settings.run / "up.lock"


def keys_lock(settings: Settings) -> Path:
    """What is held while the gateway's keys are changed or given to it; taken within the other one, never around it."""
    return settings.run / "keys.lock"


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, in words, since when (Unix time), and whether that process is stopped (state T)."""

    name: str
    pid: int
    since: float
    stopped: bool = False

    def __str__(self) -> str:
        for_s = max(0.0, time.time() - self.since)
        how = "is stopped (Ctrl-Z or SIGSTOP) and has held the lock" if self.stopped else "has been at work here"
        return f"{self.name} {how} for {for_s:.0f} s"

    @property
    def way_out(self) -> str:
        """What to do about it; whatever is interrupted, the next command goes on with."""
        if not self.pid:
            return "`supervisorctl restart watchdog` if that lasts"
        end = f"`kill {self.pid}; kill -CONT {self.pid}`" if self.stopped else f"`kill {self.pid}`"
        return f"`kill -CONT {self.pid}` lets it go on, {end} ends it" if self.stopped else f"{end} ends it"


def _taken(handle: IO[Any], how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def exclusive(path: Path, say: Callable[[str], None], wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold a lock file until the block ends; says whom it waits for when another holds it.

    Raises:
        OpsError: another holds it and is stopped, or still does after `wait_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as handle:
        _wait(handle, path, say, wait_s)
        handle.truncate(0)
        name = f"{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])} (pid {os.getpid()})"
        with contextlib.suppress(OSError):  # a courtesy: where the disk is full, `embedkit down` is wanted all the same
            handle.write(name.encode(errors="surrogateescape"))
        try:
            yield
        finally:
            handle.truncate(0)


def _wait(handle: IO[Any], path: Path, say: Callable[[str], None], wait_s: float) -> None:
    deadline, said = time.monotonic() + wait_s, False
    while not _taken(handle):
        found = holder(path)
        if found is not None:
            if found.stopped:
                raise OpsError(f"{found}: {found.way_out}")
            if time.monotonic() > deadline:
                raise OpsError(f"{found}, and this waits no longer than {wait_s:.0f} s for it: {found.way_out}")
            if not said:
                said = True
                say(f"{found}; waiting for it, {wait_s:.0f} s at most")
        time.sleep(POLL_S)


@contextlib.contextmanager
def at_once(path: Path) -> Iterator[bool]:
    """Hold the lock until the block ends if nobody else does; says whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as handle:
        alone = _taken(handle)
        if alone:
            handle.truncate(0)  # the name of one that was killed
        yield alone


@contextlib.contextmanager
def together(path: Path) -> Iterator[None]:
    """Hold the lock beside all others that do so with this; one who holds it alone is waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def holder(path: Path) -> Holder | None:
    """Who holds the lock alone; None where nobody does."""
    try:
        with path.open(errors="surrogateescape") as handle:
            if _taken(handle, fcntl.LOCK_SH):
                return None
            written, since = _WRITTEN.fullmatch(handle.read()), os.fstat(handle.fileno()).st_mtime
    except FileNotFoundError:
        return None
    if written is None:  # the watchdog writes nothing, and holds it for a moment
        return Holder("the watchdog", 0, since)
    return Holder(written[0], int(written[1]), since, _is_stopped(int(written[1])))


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False
