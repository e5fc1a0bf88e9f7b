"""A supervisorctl plugin that does one thing: before anything runs, say what to do instead of naming a socket."""

import socket
import sys
from types import SimpleNamespace
from typing import Any

NOT_RUNNING = "embedkit is not running here, so there is nothing to control yet: start it with `make up`"


def _answers(path: str) -> bool:
    """Whether somebody listens there; a socket that may not be opened is supervisorctl's to complain about."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except PermissionError:
            return True
        except OSError:
            return False
    return True


def make_hint(controller: Any, **_: str) -> SimpleNamespace:
    """Called by supervisorctl before its first request, which a missing server would fail;
    ends it with exit status 7, LSB's "not running"."""
    url = str(controller.options.serverurl)
    if url.startswith("unix://") and not _answers(url.removeprefix("unix://")):
        print(NOT_RUNNING, file=sys.stderr)
        sys.exit(7)
    return SimpleNamespace()
