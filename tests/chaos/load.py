"""Real clients during a fault: a few connections that send distinct texts, each waiting for its answer."""

import asyncio
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from ops.bench.client import Pool, Shot, Target
from ops.bench.texts import Profile, Texts
from ops.bench.truth import cosine, vector_of
from ops.probe import MIN_COSINE
from tests import patience
from tests.chaos.ledger import Entry
from tests.chaos.reference import plain_vectors

# As a client waits that was told to come back.
RETRY_S = 0.1
TIMEOUT_S = 120.0


class Load:
    """A closed loop in a thread of its own, from entering to leaving the `with` block; then `wrong` is known.

    With no connections nothing is sent: the service idles. Every `keep_every`-th answer is compared with the vector of
    plain sentence-transformers. The profiles take turns.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 8,
        seed: int = 1,
        profiles: Sequence[Profile] = ("short", "short", "short", "mixed"),
        keep_every: int = 25,
    ) -> None:
        self._target = Target.of(url)
        self.connections = connections
        self._texts = Texts(seed)
        self._profiles = profiles
        self._keep_every = keep_every
        self._sent: list[str] = []
        self._kept: list[tuple[str, bytes]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._drive()), name="chaos load")
        self.entries: list[Entry] = []
        self.said: dict[str, str] = {}  # outcome → an answer of that kind, for whoever looks into a failure
        self.checked = self.wrong = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        if kind is None:
            self._check()

    def settled(self, count: int = 200, within_s: float = 60.0) -> None:
        """Return when `count` requests were answered with a vector from now on."""
        wanted = len(self.rights()) + count
        deadline = time.monotonic() + patience.scaled(within_s)
        while len(self.rights()) < wanted:
            assert time.monotonic() < deadline, f"the load is not answered: {self.said}"
            time.sleep(0.1)

    def rights(self) -> list[Entry]:
        return [one for one in list(self.entries) if one.right]

    async def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        open_shots: set[Shot] = set()

        def send() -> None:
            if self._stopping.is_set():
                return
            index = len(self._sent)
            (text,) = self._texts.take(self._profiles[index % len(self._profiles)], 1)
            self._sent.append(text)
            shot = Shot(index, self._target.encode(text), loop.time())
            open_shots.add(shot)
            pool.submit(shot)

        def done(shot: Shot) -> None:
            open_shots.discard(shot)
            self.entries.append(Entry(shot.fired, shot.done, shot.outcome))
            if shot.ok:
                if shot.index % self._keep_every == 0:
                    self._kept.append((self._sent[shot.index], shot.body))
                loop.call_soon(send)
            else:
                self.said.setdefault(shot.outcome, shot.body[:200].decode(errors="replace"))
                loop.call_later(RETRY_S, send)

        pool = Pool(self._target, limit=self.connections, timeout_s=TIMEOUT_S, on_done=done)
        for _ in range(self.connections):
            send()
        while open_shots or not self._stopping.is_set():
            await asyncio.sleep(0.05)
        await pool.close()

    def _check(self) -> None:
        references = plain_vectors([text for text, _ in self._kept])
        self.checked = len(self._kept)
        self.wrong = sum(not is_right(body, one) for (_, body), one in zip(self._kept, references, strict=True))


def is_right(body: bytes, reference: NDArray[Any]) -> bool:
    """Whether the answer holds the reference's vector."""
    return cosine(vector_of(body), reference.tolist()) >= MIN_COSINE
