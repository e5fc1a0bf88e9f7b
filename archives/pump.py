"""Copy and hash at once: the reading thread writes, two more hash the whole file and the member in progress.

hashlib, read and write release the GIL, so on two cores both hashes cost little more than the copy alone.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

CHUNK = 4 << 20
BUFFERS = 4  # how far reading may be ahead of the slower hash


class Pump:
    """Writes one file. Every byte goes through `write`; what `pieces` reads is hashed on its own as well."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._whole = hashlib.sha256()
        self._buffers = [memoryview(bytearray(CHUNK)) for _ in range(BUFFERS)]
        self._pending: list[list[Future[None]]] = [[] for _ in range(BUFFERS)]
        self._slot = 0
        self._threads = ThreadPoolExecutor(1), ThreadPoolExecutor(1)

    def __enter__(self) -> "Pump":
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.shutdown()

    @contextmanager
    def hashing(self) -> Iterator["_Hash"]:
        """A hash to hand to `pieces`; complete when the block has ended."""
        yield hashlib.sha256()
        self._settle()

    def pieces(self, source: Path, size: int, member: "_Hash") -> Iterator[memoryview]:
        """The first `size` bytes of a file; write each piece before asking for the next.

        Raises:
            EOFError: the file is shorter.
        """
        left = size
        with source.open("rb", buffering=0) as reader:
            while left:
                self._slot = (self._slot + 1) % BUFFERS
                self._wait(self._slot)
                count = reader.readinto(self._buffers[self._slot][: min(left, CHUNK)])
                if not count:
                    raise EOFError(f"{source} ends {left} bytes early")
                piece = self._buffers[self._slot][:count]
                self._pending[self._slot].append(self._threads[0].submit(member.update, piece))
                left -= count
                yield piece

    def write(self, content: bytes | memoryview) -> None:
        """Write all of it, hashing it into the whole meanwhile."""
        self._pending[self._slot].append(self._threads[1].submit(self._whole.update, content))
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]

    def finish(self) -> str:
        """Put the file on disk; returns the hex sha256 of everything written."""
        self._settle()
        os.fsync(self._file.fileno())
        return self._whole.hexdigest()

    def _settle(self) -> None:
        for slot in range(BUFFERS):
            self._wait(slot)

    def _wait(self, slot: int) -> None:
        for future in self._pending[slot]:
            future.result()
        self._pending[slot].clear()
