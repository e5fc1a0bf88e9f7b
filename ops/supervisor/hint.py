"""A supervisorctl plugin that does one thing: before anything runs, say what to do instead of naming a socket, or of
waiting for a supervisord that does not answer."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ops.supervisor import rpc

NOT_RUNNING = "embedkit is not running here, so there is nothing to control yet: start it with `make up`"


def make_hint(controller: Any, **_given: str) -> SimpleNamespace:
    """Called by supervisorctl before its first request; where that cannot succeed it ends supervisorctl, with exit
    status 7, LSB's "not running", or 4, "unknown", where supervisord lives and does not answer. A socket that may not
    be opened is supervisorctl's to complain about."""
    kind, _, path = str(controller.options.serverurl).partition("://")
    try:
        if kind != "unix" or rpc.answers(Path(path)):
            return SimpleNamespace()
    except PermissionError:
        return SimpleNamespace()
    from ops.settings import Settings
    from ops.supervisor.process import silent

    found = silent(Settings(var=Path(path).parent.parent))
    print(found or NOT_RUNNING, file=sys.stderr)
    sys.exit(4 if found else 7)
