"""What takes minutes and changes nothing that is served, downloads and packing, comes before the deployment's lock.

So `embedkit down` or `rollback` waits for no download, and the watchdog acts meanwhile. Until the lock is held nothing
that was prepared is in the desired state, so it is kept from `prune` by a lock that all who prepare hold together.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ops.errors import OpsError
from ops.exclusive import exclusive, lock_file, together
from ops.served import preparing_lock
from ops.settings import Settings

T = TypeVar("T")


def _stop_mark(settings: Settings) -> Path:
    return settings.run / "stopped"


def mark_stop(settings: Settings) -> None:
    """The service as a whole is stopped: whatever prepares a start now is not to make it. Use it under the lock."""
    with contextlib.suppress(OSError):  # a full disk keeps nobody from stopping
        _stop_mark(settings).touch()


def _last_stop(settings: Settings) -> int:
    try:
        return _stop_mark(settings).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def prepared(settings: Settings, make: Callable[[], T], say: Callable[[str], None]) -> Iterator[T]:
    """What `make` returns, in a block that has the deployment's lock. What was looked at before may be otherwise now.

    Raises:
        OpsError: `embedkit down` came meanwhile; see exclusive.
    """
    before = _last_stop(settings)
    with contextlib.ExitStack() as stack:
        with together(preparing_lock(settings)):
            made = make()
            stack.enter_context(exclusive(lock_file(settings), say))
        if _last_stop(settings) != before:
            raise OpsError(
                "`embedkit down` came while this prepared, so nothing is started: run this again, what was prepared is "
                "kept"
            )
        yield made
