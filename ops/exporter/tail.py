"""Follow a log that is rotated by renaming: every line once, over rotations and over restarts of the reader.

log4j2 renames access.log to access.<n>.log, the highest number the youngest, and begins a new file; supervisord renames
gateway.log to gateway.log.<n>, the highest number the oldest. Where reading has got to is written down before what was
read is given out: a line is never counted in two lives of the exporter.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# After a longer absence what was missed is old news: counting it now would look like a burst.
RESUME_S = 300.0
# A read of this size takes some 50 ms to count; what is left comes with the next one.
MOST_BYTES = 4 << 20


class Tail:
    """One log file. `lost` counts the times that lines may have been rotated away before they were read."""

    def __init__(self, path: Path, position: Path) -> None:
        self._path = path
        self._position = position
        self._file: BinaryIO | None = None
        self._rest = b""
        self._saved: BinaryIO | None = None
        self.lost = 0

    def read(self) -> list[bytes]:
        """The whole lines that have come since the last call, without their ends.

        Raises OSError where a file that is there cannot be read.
        """
        if self._file is None:
            self._resume()
        taken: list[bytes] = []
        room = MOST_BYTES
        while self._file is not None and room > 0:
            content = self._file.read(room)
            room -= len(content)
            taken.append(content)
            if not content and not self._turn():
                break
        *lines, self._rest = (self._rest + b"".join(taken)).split(b"\n")
        self._save()
        return lines

    def close(self) -> None:
        for file in (self._file, self._saved):
            if file is not None:
                file.close()
        self._file = self._saved = None

    def _open(self, path: Path, offset: int = 0) -> bool:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
        file.seek(offset)
        if self._file is not None:
            self._file.close()
        self._file = file
        return True

    def _turn(self) -> bool:
        """Go on to the next younger file, once the one at hand is rotated and read to its end."""
        assert self._file is not None
        held = os.fstat(self._file.fileno())
        if held.st_size < self._file.tell():  # cut by somebody: what is there now is new
            self._file.seek(0)
            self._rest = b""
            self.lost += 1
            return True
        try:
            return self._path.stat().st_ino != held.st_ino and self._follow(held.st_ino)
        except FileNotFoundError:
            return False  # in the middle of a rotation

    def _follow(self, inode: int) -> bool:
        assert self._file is not None
        if self._file.read(1):  # written between our read and the renaming
            self._file.seek(-1, os.SEEK_CUR)
            return True
        files = list(self._by_age())
        inodes = [path.stat().st_ino for path in files]
        if inode in inodes:
            following = files[inodes.index(inode) + 1]
        else:
            self.lost += 1
            following = files[0]
        self._rest = b""  # a line never goes over two files
        return self._open(following)

    def _by_age(self) -> Iterator[Path]:
        """Every file of the log, the oldest first."""
        by_log4j2 = self._numbered(f"{self._path.stem}.", self._path.suffix)
        by_supervisord = self._numbered(f"{self._path.name}.", "")
        yield from (by_log4j2[number] for number in sorted(by_log4j2))
        yield from (by_supervisord[number] for number in sorted(by_supervisord, reverse=True))
        yield self._path

    def _numbered(self, before: str, after: str) -> dict[int, Path]:
        return {
            int(number): path
            for path in self._path.parent.glob(f"{before}*{after}")
            if (number := path.name.removeprefix(before).removesuffix(after)).isdecimal()
        }

    def _resume(self) -> None:
        """Go to where reading has got to; where nobody has read yet, to the beginning of what is not old news."""
        now = time.time()
        try:
            inode, offset = map(int, self._position.read_bytes().split())
            fresh = abs(now - self._position.stat().st_mtime) <= RESUME_S
        except FileNotFoundError:
            inode, offset, fresh = -1, 0, True
        except (OSError, ValueError):
            inode, offset, fresh = -1, 0, False
        first = inode < 0
        for path in self._by_age():
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            if not fresh:
                inode, offset = (found.st_ino, found.st_size) if path == self._path else (-1, 0)
            elif first and abs(now - found.st_mtime) <= RESUME_S:
                inode, offset = found.st_ino, 0
            if found.st_ino == inode and found.st_size >= offset:
                self._open(path, offset)
                return
        if not first:  # the file is gone: whatever comes now has not been read
            self.lost += fresh
            self._position.unlink(missing_ok=True)

    def _save(self) -> None:
        if self._file is None:
            return
        here = b"%20d %20d\n" % (os.fstat(self._file.fileno()).st_ino, self._file.tell() - len(self._rest))
        with contextlib.suppress(OSError):  # a full disk costs the resuming alone
            if self._saved is None:
                self._position.parent.mkdir(parents=True, exist_ok=True)
                self._saved = os.fdopen(os.open(self._position, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
            os.pwrite(self._saved.fileno(), here, 0)  # in place: a kill leaves the old or the new
