"""Real load from several connections at once, timed by the client, which does nothing else meanwhile."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import orjson

from tests.e2e.stack import Stack

CLIENTS = 260  # the gateway lets in 192 of minilm's, whose queue has 256 places
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Call:
    """One request, ready to be sent."""

    path: str
    body: bytes


@dataclass
class Seen:
    """What the clients saw: (path, status) → how often; seconds of each answer with a vector."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    broken: int = 0  # connections that ended without an answer

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def texts(count: int, words: int, seed: int = 0) -> list[str]:
    """Distinct texts of some length."""
    return [
        " ".join(f"word{(seed * 7919 + number * 31 + word * 17) % 9973}" for word in range(words))
        for number in range(count)
    ]


def embed_call(model: str, inputs: Sequence[str]) -> Call:
    return Call(f"/predictions/{model}", orjson.dumps({"input": list(inputs)}))


def send(
    port: int,
    calls: Sequence[Call],
    connections: int,
    until: float | None = None,
    over: threading.Event | None = None,
) -> Seen:
    """Send each call once, or all of them over and over until the monotonic time `until`, or until it is `over`."""
    seen, lock = Seen(), threading.Lock()
    queue = iter(calls)

    def following() -> Call | None:
        nonlocal queue
        with lock:
            found = next(queue, None)
            ended = (until is not None and time.monotonic() >= until) or (over is not None and over.is_set())
            if found is None and not ended and (until is not None or over is not None):
                queue = iter(calls)
                found = next(queue)
            return None if ended else found

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
        while (call := following()) is not None:
            started = time.perf_counter()
            try:
                connection.request("POST", call.path, call.body, HEADERS)
                answer = connection.getresponse()
                answer.read()
            except (http.client.HTTPException, OSError):
                connection.close()
                with lock:
                    seen.broken += 1
                time.sleep(0.2)
                continue
            took = time.perf_counter() - started
            with lock:
                seen.statuses[call.path, answer.status] += 1
                if answer.status == 200:
                    seen.seconds.append(took)
            if answer.status == 503:
                time.sleep(0.2)  # as a client does that was told to come back
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


class Overload:
    """A `with` block in which more clients come to the gateway than it lets in; `seen` is what they saw, in the end."""

    def __init__(self, stack: Stack) -> None:
        path = "/v1/models/minilm/embeddings"
        self._calls = [Call(path, orjson.dumps({"input": texts(8, 40, seed)})) for seed in range(20)]
        self._port, self._over = stack.settings.gateway_port, threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.seen = Seen()

    def _send(self) -> None:
        self.seen = send(self._port, self._calls, CLIENTS, over=self._over)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
