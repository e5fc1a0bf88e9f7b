"""A supervisorctl plugin that does one thing: before anything runs, say what to do instead of naming a socket."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NOT_RUNNING = "embedkit is not running here, so there is nothing to control yet: start it with `make up`"


def make_hint(controller: Any, **_: str) -> SimpleNamespace:
    """Called by supervisorctl before its first request, which a missing server would fail;
    ends it with exit status 7, LSB's "not running"."""
    url = str(controller.options.serverurl)
    if url.startswith("unix://") and not Path(url.removeprefix("unix://")).is_socket():
        print(NOT_RUNNING, file=sys.stderr)
        sys.exit(7)
    return SimpleNamespace()
