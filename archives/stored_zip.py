"""Write a zip of stored files, in one forward pass, byte for byte the same for the same files.

zipfile writes a member's header again once the content is known; where sizes and CRCs are known before, as here, the
archive can be hashed while it is written. TorchServe reads archives as a stream, so sizes have to stand in the local
headers, not behind the content.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")

_MAX32, _MAX16 = 0xFFFFFFFF, 0xFFFF
_DATE, _TIME = (0 << 9) | (1 << 5) | 1, 0  # 1980-01-01 00:00, the earliest a zip can say
_UNIX = 3 << 8
_FILE_MODE = 0o100644 << 16
_UTF8 = 0x800


@dataclass(frozen=True)
class _Member:
    name: bytes
    size: int
    crc32: int
    offset: int


class StoredZip:
    """Headers and the directory of a zip; the contents are written by the caller.

    Use: `begin(name, size, crc32)`, then exactly `size` bytes through `write`, again for each file; `finish()`.
    """

    def __init__(self, sink: Callable[[bytes | memoryview], None]) -> None:
        self._sink = sink
        self._members: list[_Member] = []
        self._position = 0

    def write(self, content: bytes | memoryview) -> None:
        self._sink(content)
        self._position += len(content)

    def begin(self, name: str, size: int, crc32: int) -> None:
        """Write the header of the next file; `size` in bytes."""
        encoded = name.encode()
        large = size >= _MAX32
        extra = struct.pack("<2H2Q", 1, 16, size, size) if large else b""
        shown = _MAX32 if large else size
        self._members.append(_Member(encoded, size, crc32, self._position))
        self.write(
            _LOCAL.pack(
                b"PK\x03\x04", 45 if large else 20, _flags(encoded), 0, _TIME, _DATE,
                crc32, shown, shown, len(encoded), len(extra),
            )
            + encoded
            + extra
        )  # fmt: skip

    def finish(self) -> None:
        """Write the directory: only now is it a zip."""
        start = self._position
        for member in self._members:
            self.write(_central(member))
        size, count = self._position - start, len(self._members)
        if start >= _MAX32 or size >= _MAX32 or count >= _MAX16:
            at = self._position
            self.write(_END64.pack(b"PK\x06\x06", 44, _UNIX | 45, 45, 0, 0, count, count, size, start))
            self.write(_LOCATOR64.pack(b"PK\x06\x07", 0, at, 1))
        count = min(count, _MAX16)
        self.write(_END.pack(b"PK\x05\x06", 0, 0, count, count, min(size, _MAX32), min(start, _MAX32), 0))


def _flags(name: bytes) -> int:
    return 0 if name.isascii() else _UTF8


def _central(member: _Member) -> bytes:
    wide = [value for value in (member.size, member.size, member.offset) if value >= _MAX32]
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version = 45 if wide else 20
    size = min(member.size, _MAX32)
    return (
        _CENTRAL.pack(
            b"PK\x01\x02", _UNIX | version, version, _flags(member.name), 0, _TIME, _DATE, member.crc32,
            size, size, len(member.name), len(extra), 0, 0, 0, _FILE_MODE, min(member.offset, _MAX32),
        )
        + member.name
        + extra
    )  # fmt: skip
