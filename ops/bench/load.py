"""The two kinds of load. One call is one phase; it returns when every request has its outcome.

Closed loop: so many connections, each sending its next text when the last is answered. It finds the ceiling,
and hides waiting: a server that stalls is simply asked less (coordinated omission).
Open loop: requests come when they come, whatever the server does, and latency counts from the time a request
was due, so that a stall shows in every request that met it.
"""

import asyncio
import contextlib
import gc
import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from archives.progress import Progress
from ops.bench.client import Pool, Shot, Target

REPORT_S = 5.0
TIMEOUT_S = 60.0
# More than any queue that is measured, so that the server's limit is met and not the client's.
OPEN_CONNECTIONS = 2048


@dataclass(frozen=True)
class Load:
    """What a phase came to. `shots` in the order of the texts, their times in seconds from the phase's start;
    `seconds` until the last outcome, `cpu_s` the load generator's own processor time in it. `bodies`: index →
    answer, for every `keep_every`-th text that was answered. `connections` of a closed loop, None of an open one.
    """

    shots: tuple[Shot, ...]
    seconds: float
    cpu_s: float
    bodies: dict[int, bytes] = field(repr=False)
    connections: int | None = None


def closed_loop(
    target: Target,
    texts: Sequence[str],
    *,
    connections: int,
    progress: Progress,
    label: str = "",
    timeout_s: float = TIMEOUT_S,
    keep_every: int = 0,
) -> Load:
    """Send each text once over `connections` connections, each waiting for its answer."""
    if connections < 1:
        raise ValueError(f"connections = {connections}: at least one is needed")

    async def drive(run: "_Run") -> None:
        upcoming = iter(range(len(run.shots)))

        def send_next() -> None:
            index = next(upcoming, None)
            if index is not None:
                shot = run.shots[index]
                shot.intended = run.loop.time()
                run.pool.submit(shot)

        run.after_each = send_next
        run.begin(target, connections, timeout_s)
        for _ in range(min(connections, len(run.shots))):
            send_next()
        await run.all_done

    name = label or f"{connections} connection{'s' if connections > 1 else ''}"
    requests = [target.encode(text) for text in texts]
    load = _phase(requests, drive, progress=progress, label=name, keep_every=keep_every)
    return replace(load, connections=connections)


def open_loop(
    target: Target,
    texts: Sequence[str],
    arrivals: Sequence[float],
    *,
    progress: Progress,
    label: str = "",
    connections: int = OPEN_CONNECTIONS,
    timeout_s: float = TIMEOUT_S,
    keep_every: int = 0,
) -> Load:
    """Send text i when arrival i is due (rising seconds from the start), whatever has become of the others.

    The loop's timer is good to a millisecond: requests leave up to that much late, and the lateness counts.
    """
    if len(texts) != len(arrivals):
        raise ValueError(f"{len(texts)} texts for {len(arrivals)} arrivals: one for each is needed")

    async def drive(run: "_Run") -> None:
        run.begin(target, connections, timeout_s)
        for shot, arrival in zip(run.shots, arrivals, strict=True):
            shot.intended = run.started + arrival
        upcoming = 0

        def send_due() -> None:
            nonlocal upcoming
            now = run.loop.time()
            while upcoming < len(run.shots) and run.shots[upcoming].intended <= now:
                run.pool.submit(run.shots[upcoming])
                upcoming += 1
            if upcoming < len(run.shots):
                run.loop.call_at(run.shots[upcoming].intended, send_due)

        send_due()
        await run.all_done

    name = label or f"{len(arrivals)} arrivals"
    requests = [target.encode(text) for text in texts]
    return _phase(requests, drive, progress=progress, label=name, keep_every=keep_every)


class _Run:
    """A phase in progress."""

    def __init__(self, shots: list[Shot], keep_every: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.shots = shots
        self.all_done: asyncio.Future[None] = self.loop.create_future()
        self.after_each: Callable[[], None] = lambda: None
        self.bodies: dict[int, bytes] = {}
        self.done = self.good = 0
        self.started = self.ended = self.loop.time()
        self.cpu_started = self.cpu_s = 0.0
        self._keep_every = keep_every
        self.pool: Pool

    def begin(self, target: Target, connections: int, timeout_s: float) -> None:
        """The clock runs from here."""
        _allow_connections(connections)
        self.pool = Pool(target, limit=connections, timeout_s=timeout_s, on_done=self._finished)
        self.cpu_started = time.process_time()
        self.started = self.loop.time()
        if not self.shots:
            self.all_done.set_result(None)

    def _finished(self, shot: Shot) -> None:
        self.done += 1
        if shot.ok:
            self.good += 1
            if self._keep_every and shot.index % self._keep_every == 0:
                self.bodies[shot.index] = shot.body
            shot.body = b""
        self.after_each()
        if self.done == len(self.shots):
            self.ended = self.loop.time()
            self.cpu_s = time.process_time() - self.cpu_started
            self.all_done.set_result(None)


def _phase(
    requests: Sequence[bytes],
    drive: Callable[[_Run], Awaitable[None]],
    *,
    progress: Progress,
    label: str,
    keep_every: int,
) -> Load:
    async def main() -> Load:
        run = _Run([Shot(index, request, 0.0) for index, request in enumerate(requests)], keep_every)
        ticker = asyncio.get_running_loop().create_task(_tell(run, progress, label))
        try:
            await drive(run)
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
            await run.pool.close()
        return _load(run)

    with _without_collector():
        return asyncio.run(main())


def _load(run: _Run) -> Load:
    for shot in run.shots:
        shot.intended -= run.started
        shot.fired -= run.started
        shot.done -= run.started
        shot.request = b""
    return Load(tuple(run.shots), run.ended - run.started, run.cpu_s, run.bodies)


async def _tell(run: _Run, progress: Progress, label: str) -> None:
    last = 0
    while True:
        await asyncio.sleep(REPORT_S)
        rate, last = (run.done - last) / REPORT_S, run.done
        wrong = run.done - run.good
        more = f", {wrong} not answered with a vector" if wrong else ""
        progress.say(f"{label}: {run.done} of {len(run.shots)} texts, {rate:.0f} a second{more}")


def _allow_connections(count: int) -> None:
    """Raise the soft limit of open files as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """A collection in the middle of a phase would be a pause of the client that looks like the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
