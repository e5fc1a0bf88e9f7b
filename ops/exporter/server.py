"""The exporter's HTTP server, which tells nobody what it is made of: `/healthz` is open to people without a key."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import WSGIApplication

ServerHandler.server_software = ""  # else each answer names the releases of wsgiref and Python


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def send_header(self, keyword: str, value: str) -> None:
        """http.server's own answers, to what is no HTTP, name them too."""
        if keyword != "Server":
            super().send_header(keyword, value)

    def log_message(self, *_: Any) -> None:
        """Scrapes are no news."""


@contextmanager
def answering(port: int, app: WSGIApplication) -> Iterator[int]:
    """The application on this port of loopback, a thread a request, until the block ends; gives the port.

    Raises:
        OSError: the port is taken.
    """
    server = make_server("127.0.0.1", port, app, _Server, _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
