"""Real load from several connections at once, timed by the client, which does nothing else meanwhile."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

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


def send(port: int, calls: Sequence[Call], connections: int, until: float | None = None) -> Seen:
    """Send each call once, or all of them over and over until the monotonic time `until`."""
    seen, lock = Seen(), threading.Lock()
    queue = iter(calls)

    def following() -> Call | None:
        nonlocal queue
        with lock:
            found = next(queue, None)
            if found is None and until is not None and time.monotonic() < until:
                queue = iter(calls)
                found = next(queue)
            return found if until is None or time.monotonic() < until else None

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
