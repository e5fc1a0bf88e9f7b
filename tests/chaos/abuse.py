"""Bad clients, in a process of their own, so that they do not slow down the good ones' clock.

    python -m tests.chaos.abuse KIND PORT SECONDS PATH

Prints what became of its connections, as JSON.
"""

import asyncio
import contextlib
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson

HEAD = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@dataclass
class Abuse:
    """Where it goes, how long (monotonic), and what was seen: answers by status, connections closed or refused."""

    port: int
    path: str
    until: float
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until

    async def connected(self, use: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            self.seen["refused"] += 1
            return
        try:
            await use(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.seen["closed"] += 1
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def answer(self, reader: asyncio.StreamReader) -> None:
        """Note the status of what comes, and read on to the end."""
        line = await reader.readline()
        self.seen[line.split()[1].decode() if line else "closed"] += 1
        while await reader.read(65536):
            pass


async def slow_loris(abuse: Abuse) -> None:
    """500 clients that send a header's letter a second, and come again when they are thrown out."""

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD.format(path=abuse.path).encode() + b"X-Slow: ")
        answered = asyncio.ensure_future(abuse.answer(reader))
        while not abuse.over and not answered.done():
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(1)
        answered.cancel()

    await _many(abuse, 500, use)


async def idle(abuse: Abuse) -> None:
    """1,000 connections that say nothing."""

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(abuse.answer(reader), max(0.1, abuse.until - time.monotonic()))

    await _many(abuse, 1000, use)


async def large_bodies(abuse: Abuse) -> None:
    """A client that sends 20 MB, again and again."""
    body = orjson.dumps({"input": "a" * 20_000_000})

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = HEAD.format(path=abuse.path) + f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        await abuse.answer(reader)

    await _many(abuse, 1, use)


async def slow_large_bodies(abuse: Abuse) -> None:
    """300 clients, more than the queue has places, that send 128 KiB of a body and then a byte a second."""
    head = HEAD.format(path=abuse.path) + "Content-Length: 1000000\r\n\r\n"

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + b"a" * (128 << 10))
        answered = asyncio.ensure_future(abuse.answer(reader))
        while not abuse.over and not answered.done():
            await asyncio.sleep(1)
            writer.write(b"a")
            await writer.drain()
        answered.cancel()

    await _many(abuse, 300, use)


async def header_flood(abuse: Abuse) -> None:
    """50 clients that send 2,000 headers with each request."""
    flood = "".join(f"X-Flood-{number}: {'a' * 40}\r\n" for number in range(2000))
    request = (HEAD.format(path=abuse.path) + flood + "Content-Length: 0\r\n\r\n").encode()

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request)
        await writer.drain()
        await abuse.answer(reader)
        await asyncio.sleep(0.5)

    await _many(abuse, 50, use)


async def _many(
    abuse: Abuse, count: int, use: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> None:
    async def again() -> None:
        while not abuse.over:
            await abuse.connected(use)
            await asyncio.sleep(0.2)

    await asyncio.gather(*(again() for _ in range(count)))


KINDS = {
    "slow loris": slow_loris,
    "idle": idle,
    "large bodies": large_bodies,
    "header flood": header_flood,
    "slow large bodies": slow_large_bodies,
}


def main() -> None:
    kind, port, seconds, path = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    abuse = Abuse(int(port), path, time.monotonic() + float(seconds))
    asyncio.run(KINDS[kind](abuse))
    print(orjson.dumps(dict(abuse.seen)).decode())


if __name__ == "__main__":
    main()
