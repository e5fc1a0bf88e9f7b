"""Reads HTTP/1.1 answers from a byte stream, however it was cut into packets."""

from dataclasses import dataclass

_HEAD_LIMIT = 64 * 1024


class ProtocolError(ValueError):
    """What came is not an HTTP answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer. `keep_alive`: the connection may carry another request."""

    status: int
    body: bytes
    keep_alive: bool


@dataclass(slots=True)
class _Head:
    status: int
    length: int | None  # None: up to the connection's end
    chunked: bool
    keep_alive: bool


class AnswerParser:
    """Bytes in, whole answers out. Not for answers to HEAD, which have a length and no body."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._chunks: list[bytes] = []

    @property
    def idle(self) -> bool:
        """Whether nothing of an answer is there yet."""
        return self._head is None and not self._buffer

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that are whole now.

        Raises:
            ProtocolError: this is no HTTP/1 answer.
        """
        self._buffer += data
        answers: list[Answer] = []
        while True:
            if self._head is None and not self._read_head():
                return answers
            answer = self._read_body()
            if answer is None:
                return answers
            self._head = None
            # An interim answer (100 Continue) announces the one that counts.
            if answer.status >= 200:
                answers.append(answer)

    def close(self) -> Answer | None:
        """The answer that the connection's end completes: one that named no length. None where none was pending."""
        head, self._head = self._head, None
        if head is None or head.chunked or head.length is not None:
            return None
        return Answer(head.status, bytes(self._buffer), keep_alive=False)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise ProtocolError(f"no end of the headers within {_HEAD_LIMIT} bytes")
            return False
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        self._head = _parse_head(lines)
        return True

    def _read_body(self) -> Answer | None:
        head = self._head
        assert head is not None
        if head.chunked:
            body = self._read_chunks()
            return None if body is None else Answer(head.status, body, head.keep_alive)
        if head.length is None or len(self._buffer) < head.length:
            return None
        body = bytes(self._buffer[: head.length])
        del self._buffer[: head.length]
        return Answer(head.status, body, head.keep_alive)

    def _read_chunks(self) -> bytes | None:
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = _number(bytes(self._buffer[:end]).partition(b";")[0], 16, "chunk size")
            if size == 0:
                return self._end_of_chunks(end)
            if len(self._buffer) < end + 2 + size + 2:
                return None
            self._chunks.append(bytes(self._buffer[end + 2 : end + 2 + size]))
            del self._buffer[: end + 2 + size + 2]
        return None

    def _end_of_chunks(self, end: int) -> bytes | None:
        """Behind the last chunk come trailers, often none, and an empty line."""
        stop = self._buffer.find(b"\r\n\r\n", end)
        if stop < 0:
            return None
        del self._buffer[: stop + 4]
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body


def _parse_head(lines: list[bytes]) -> _Head:
    version, _, rest = lines[0].partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ProtocolError(f"not an HTTP/1 answer: {lines[0][:80]!r}")
    status = _number(rest[:3], 10, "status")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    tokens = headers.get(b"connection", b"").lower()
    chunked = b"chunked" in headers.get(b"transfer-encoding", b"").lower()
    length = _number(headers[b"content-length"], 10, "Content-Length") if b"content-length" in headers else None
    if status < 200 or status in {204, 304}:
        length, chunked = 0, False
    keep_alive = b"close" not in tokens and (version != b"HTTP/1.0" or b"keep-alive" in tokens)
    return _Head(status, length, chunked, keep_alive and (chunked or length is not None))


def _number(digits: bytes, base: int, what: str) -> int:
    try:
        number = int(digits, base)
    except ValueError:
        number = -1
    if number < 0:
        raise ProtocolError(f"{what} {digits[:80]!r} is not a number")
    return number
