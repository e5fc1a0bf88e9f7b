"""One command at a time: a lock between processes that ends with its holder, whose name is in the file meanwhile."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ops.settings import Settings


def lock_file(settings: Settings) -> Path:
    """What every command that changes what is served holds meanwhile."""
    return settings.run / "up.lock"


def _taken(handle: IO[Any], how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def exclusive(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file until the block ends; says whom it waits for when another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as handle:
        if not _taken(handle):
            say(f"{holder(path) or 'the watchdog'} is at work here; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.truncate(0)
        name = f"{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])} (pid {os.getpid()})"
        with contextlib.suppress(OSError):  # a courtesy: where the disk is full, `embedkit down` is wanted all the same
            handle.write(name.encode(errors="surrogateescape"))
        try:
            yield
        finally:
            handle.truncate(0)


@contextlib.contextmanager
def at_once(path: Path) -> Iterator[bool]:
    """Hold the lock until the block ends if nobody else does; says whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as handle:
        alone = _taken(handle)
        if alone:
            handle.truncate(0)  # the name of one that was killed
        yield alone


def holder(path: Path) -> str:
    """The command that holds the lock, and its pid; empty where nobody does."""
    try:
        with path.open(errors="surrogateescape") as handle:
            return "" if _taken(handle, fcntl.LOCK_SH) else handle.read()
    except FileNotFoundError:
        return ""
