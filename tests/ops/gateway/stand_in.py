"""A small HTTP server in TorchServe's place: it notes what reaches it, and fails as it is told to."""

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

MARK = re.compile(r"\?embedkit-gateway=[\w-]{32}$")
FINGERPRINT = "minilm/1.0 rev=0 torch float32 kit=0"


@dataclass(frozen=True)
class Arrived:
    """One request as it came through; `path` without the gateway's mark, and whether it was there."""

    method: str
    path: str
    marked: bool
    headers: dict[str, str]
    body: bytes


@dataclass
class StandIn:
    """What reached it; how long an answer takes; the status of its own refusals; how many requests it is to lose."""

    port: int
    arrived: list[Arrived] = field(default_factory=list)
    seconds: float = 0.0
    refuses: int | None = None
    loses: int = 0
    resets: bool = False  # a lost one ends with RST, else with FIN
    padding: int = 0  # bytes by which an answer is longer

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        if request.headers.get("Transfer-Encoding"):
            while size := int(request.rfile.readline(), 16):
                body += request.rfile.read(size)
                request.rfile.readline()
            request.rfile.readline()
        headers = {name.lower(): value for name, value in request.headers.items()}
        path, marked = MARK.subn("", request.path)
        self.arrived.append(Arrived(request.command, path, bool(marked), headers, body))
        if self.loses > 0:
            self.loses -= 1
            request.close_connection = True
            if self.resets:
                request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                request.connection.close()
            return
        time.sleep(self.seconds)
        if self.refuses is not None:
            self._send(request, self.refuses, {"code": self.refuses, "type": "Exception", "message": "torchserve's"})
            return
        model = path.split("/")[2] if path.count("/") >= 2 else ""
        data = [{"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        whole = {"object": "list", "data": data, "model": model, "usage": usage, "padding": "x" * self.padding}
        self._send(request, 200, whole, handler=True)

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: Any, *, handler: bool = False) -> None:
        content = orjson.dumps(body)
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        if handler:
            request.send_header("X-Embedkit-Fingerprint", FINGERPRINT)
        request.end_headers()
        request.wfile.write(content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: StandIn

    def do_POST(self) -> None:
        self.served.answer(self)

    def do_PUT(self) -> None:
        self.served.answer(self)

    def do_GET(self) -> None:
        self.served.answer(self)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the other side closed is no news."""


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    """It listens until the block ends; connections that are open then are closed."""
    handler = type("Handler", (_Handler,), {"served": stand_in})
    server = _Server(("127.0.0.1", stand_in.port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
