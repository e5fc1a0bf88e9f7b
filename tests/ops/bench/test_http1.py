"""The parser finds the same answers however the stream was cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.http1 import Answer, AnswerParser, ProtocolError

LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-A: b\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\nConnection: Close\r\n\r\n"
    b"3\r\nabc\r\nA;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
STREAM = LENGTH + INTERIM + LENGTH + EMPTY + CHUNKED + LENGTH
HELLO = Answer(200, b"hello", keep_alive=True)
ANSWERS = [HELLO, HELLO, Answer(204, b"", keep_alive=True), Answer(503, b"abc0123456789", keep_alive=False), HELLO]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_packets_do_not_matter(cuts: list[int]) -> None:
    """A stream cut anywhere gives the same answers."""
    parser = AnswerParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    found = [answer for start, end in pairwise(edges) for answer in parser.feed(STREAM[start:end])]
    assert found == ANSWERS
    assert parser.idle


def test_byte_by_byte() -> None:
    """The smallest packets there are."""
    parser = AnswerParser()
    assert [answer for byte in STREAM for answer in parser.feed(bytes([byte]))] == ANSWERS


def test_an_answer_without_length_ends_with_the_connection() -> None:
    """Until then it is not whole; a connection that ends within a length or a chunk has no answer."""
    parser = AnswerParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\nuntil the end") == []
    assert parser.close() == Answer(200, b"until the end", keep_alive=False)
    for cut_short in (LENGTH[:-1], CHUNKED[:-1], b""):
        parser = AnswerParser()
        parser.feed(cut_short)
        assert parser.close() is None


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, Close", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
    ],
)
def test_keep_alive(head: bytes, kept: bool) -> None:
    """HTTP/1.1 keeps a connection unless told otherwise, HTTP/1.0 the other way round."""
    assert [answer.keep_alive for answer in AnswerParser().feed(head + b"\r\n\r\n")] == [kept]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"x" * 70_000,
    ],
)
def test_nonsense_is_an_error(nonsense: bytes) -> None:
    """What is no HTTP answer is said to be none."""
    with pytest.raises(ProtocolError):
        AnswerParser().feed(nonsense)
