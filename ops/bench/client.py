"""A pool of HTTP/1.1 keep-alive connections for load: raw asyncio protocols and requests encoded beforehand.

A client library would take a core for itself, and on a small machine that core is the server's: this costs
about a tenth of a millisecond a request, body included. No pipelining: a connection carries one request.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from handlers.protocol import EncodingFormat
from ops.bench.http1 import Answer, AnswerParser, ProtocolError

# What OpenAI's own client asks for.
ENCODING_FORMAT: EncodingFormat = "base64"
_SWEEP_S = 0.1


@dataclass(frozen=True)
class Target:
    """Where requests go, and what is in the body beside {"input": text}."""

    host: str
    port: int
    path: str
    model: str | None = None
    encoding_format: EncodingFormat | None = None

    @classmethod
    def of(cls, url: str, model: str | None = None, encoding_format: EncodingFormat | None = None) -> "Target":
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 80, parts.path or "/", model, encoding_format)

    def body(self, text: str) -> dict[str, str]:
        """The request's body."""
        options = {"model": self.model, "encoding_format": self.encoding_format}
        return {"input": text} | {name: value for name, value in options.items() if value is not None}

    def encode(self, text: str) -> bytes:
        """One whole request."""
        body = orjson.dumps(self.body(text))
        host = f"[{self.host}]" if ":" in self.host else self.host
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {host}:{self.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body


@dataclass(slots=True, eq=False)
class Shot:
    """One request. Times on the loop's clock, in seconds: when it was due (`intended`), when this program got to it
    (`fired`), and when it had its `outcome`: the HTTP status in digits, "timeout", "refused" (no connection could be
    made) or "lost" (the connection ended, or spoke nonsense, before a whole answer); "" while it is open.
    """

    index: int
    request: bytes
    intended: float
    fired: float = 0.0
    done: float = 0.0
    outcome: str = ""
    body: bytes = b""

    @property
    def ok(self) -> bool:
        return self.outcome == "200"


class Pool:
    """At most `limit` connections; what finds none free waits in order, its time running.

    `on_done` is called once for every shot, when it has its outcome.
    """

    def __init__(self, target: Target, *, limit: int, timeout_s: float, on_done: Callable[[Shot], None]) -> None:
        self._target = target
        self._limit = limit
        self._timeout = timeout_s
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        self._busy: dict[Shot, _Connection | None] = {}
        self._waiting: deque[Shot] = deque()
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper = self._loop.create_task(self._sweep())

    def submit(self, shot: Shot) -> None:
        """Send it as soon as a connection allows."""
        shot.fired = self._loop.time()
        self._place(shot)

    def _place(self, shot: Shot) -> None:
        if self._idle:
            self._send(self._idle.pop(), shot)
        elif self._open < self._limit:
            self._open += 1
            self._busy[shot] = None
            task = self._loop.create_task(self._connect(shot))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._waiting.append(shot)

    async def close(self) -> None:
        """End every connection; to be called when every shot has its outcome."""
        self._sweeper.cancel()
        for task in self._tasks:
            task.cancel()
        for connection in self._idle:
            connection.end()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeper
        await asyncio.sleep(0)  # transports close in the loop's next round

    def _send(self, connection: "_Connection", shot: Shot) -> None:
        self._busy[shot] = connection
        connection.send(shot)

    async def _connect(self, shot: Shot) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self), self._target.host, self._target.port
            )
        except OSError:
            self._open -= 1
            self._finish(shot, "refused")
            self._next_without_connection()
            return
        if shot.outcome:  # timed out meanwhile
            self._free(connection)
        else:
            self._send(connection, shot)

    def answered(self, connection: "_Connection", shot: Shot, answer: Answer) -> None:
        shot.body = answer.body
        if answer.keep_alive:
            self._busy.pop(shot, None)
            self._free(connection)
        else:
            connection.end()
            self._gone()
        self._finish(shot, str(answer.status))

    def lost(self, connection: "_Connection", shot: Shot | None) -> None:
        """The connection ended by itself, with this shot on it or idle."""
        if shot is None:
            if connection in self._idle:
                self._idle.remove(connection)
                self._open -= 1
            return
        self._gone()
        self._finish(shot, "lost")

    def _free(self, connection: "_Connection") -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _gone(self) -> None:
        self._open -= 1
        self._next_without_connection()

    def _next_without_connection(self) -> None:
        if self._waiting and self._open < self._limit:
            self._place(self._waiting.popleft())

    def _finish(self, shot: Shot, outcome: str) -> None:
        if shot.outcome:
            return
        self._busy.pop(shot, None)
        shot.done = self._loop.time()
        shot.outcome = outcome
        self._on_done(shot)

    async def _sweep(self) -> None:
        """One look at all open shots now and then costs less than a timer for each."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            due = self._loop.time() - self._timeout
            for shot in [shot for shot in self._busy if shot.intended < due]:
                connection = self._busy.pop(shot)
                if connection is not None:
                    connection.end()
                    self._gone()
                self._finish(shot, "timeout")
            for shot in [shot for shot in self._waiting if shot.intended < due]:
                self._waiting.remove(shot)
                self._finish(shot, "timeout")


class _Connection(asyncio.Protocol):
    """One connection and the shot that is on it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = AnswerParser()
        self._transport: asyncio.Transport | None = None
        self._shot: Shot | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, shot: Shot) -> None:
        assert self._transport is not None
        self._shot = shot
        self._transport.write(shot.request)

    def end(self) -> None:
        """Close without a word to the pool."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            answers: Iterable[Answer] = self._parser.feed(data)
        except ProtocolError:
            answers = ()
            self._lose()
        for answer in answers:
            self._deliver(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ended:
            return
        last = self._parser.close() if exc is None else None
        if last is not None and self._shot is not None:
            self._deliver(last)
        else:
            self._lose()

    def _deliver(self, answer: Answer) -> None:
        shot, self._shot = self._shot, None
        if shot is None:  # an answer to nothing
            self._lose()
        else:
            self._pool.answered(self, shot, answer)

    def _lose(self) -> None:
        shot, self._shot = self._shot, None
        if not self._ended:
            self.end()
            self._pool.lost(self, shot)
