"""One call to a supervisord over its socket, with supervisor's own XML-RPC transport and a time limit, which that has
not: a supervisord that is stopped accepts connections and never answers. Light: supervisorctl's plugin imports it."""

import contextlib
import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

ANSWER_S = 5.0  # it answers at once, whatever its programs are at


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(SupervisorTransport):  # type: ignore[misc] # supervisor has no types
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__(serverurl=f"unix://{path}")
        self._get_connection = lambda: _Connection(path, timeout_s)


def call(path: Path, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
    """What `supervisor.<method>` of the supervisord on this socket returns.

    Raises:
        OSError: nobody listens there, or no answer has come; TimeoutError: not in time.
        xmlrpc.client.Error, http.client.HTTPException: it refuses, or answers with something else.
    """
    with contextlib.closing(_Transport(path, timeout_s or ANSWER_S)) as transport:
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        return getattr(proxy.supervisor, method)(*arguments)


def answers(path: Path) -> bool:
    """Whether a supervisord answers on this socket, be it that it is stopping.

    Raises:
        PermissionError: the socket is another user's.
    """
    try:
        call(path, "getState")
    except PermissionError:
        raise
    except xmlrpc.client.Fault:
        return True
    except (OSError, xmlrpc.client.Error, http.client.HTTPException):
        return False
    return True
