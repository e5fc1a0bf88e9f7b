"""A server of known behaviour in a thread of its own: one request at a time, as slow as it is told to be."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ops.bench.client import Target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull"


@dataclass
class StandIn:
    """`answer` maps a request's number, from 0, to (seconds of service, bytes to answer with). Empty bytes drop the
    connection, None never answers.
    """

    answer: Callable[[int], tuple[float, bytes | None]]
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", self.port, "/predictions/m")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                async with self._one_at_a_time:
                    seconds, answer = self.answer(len(self.bodies))
                    self.bodies.append(body)
                    await asyncio.sleep(seconds)
                if answer is None:
                    await reader.read()  # until the client gives up
                    return
                writer.write(answer)
                if b"Connection: close" in answer or not answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def main(self, ready: threading.Event, stop: asyncio.Event) -> None:
        self._one_at_a_time = asyncio.Lock()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


@contextmanager
def serving(answer: Callable[[int], tuple[float, bytes | None]]) -> Iterator[StandIn]:
    """The server, until the block ends."""
    stand_in = StandIn(answer)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[stand_in.main(ready, stop)])
    thread.start()
    try:
        assert ready.wait(30)
        yield stand_in
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
