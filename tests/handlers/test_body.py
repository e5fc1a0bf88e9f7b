import gzip
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.body import decode_body, request_headers
from handlers.errors import BadRequestError, RequestError, TooLargeError, UnsupportedBodyError

REQUEST = {"input": "教练, 我想打篮球."}
JSON = '{"input":"教练, 我想打篮球."}'
LIMIT = 10_000


def decode(row: object, **headers: str) -> object:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return decode_body(row, request_headers(named), max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("row", "headers"),
    [
        ({"body": JSON.encode()}, {"Content_Type": "application/json"}),
        ({"body": bytearray(JSON.encode())}, {"CONTENT_TYPE": "application/json; charset=UTF-8"}),
        ({"body": JSON.encode()}, {}),  # curl -T
        ({"body": REQUEST}, {"content_type": "application/json"}),  # decode_input_request=true
        ({"body": JSON}, {"Content_Type": "text/plain"}),  # the same, for text
        ({"body": JSON.encode()}, {"Content_Type": "application/octet-stream"}),
        ({"data": JSON}, {"Content_Type": "multipart/form-data; boundary=x"}),
        ({"data": JSON.encode()}, {"Content_Type": "multipart/form-data; boundary=x"}),
        ({"body": b"\xef\xbb\xbf" + JSON.encode()}, {}),
        ({"body": JSON.encode("gb18030")}, {"Content_Type": "application/json; charset=GBK"}),
        ({"body": JSON.encode("utf-16")}, {"Content_Type": 'application/json;charset="utf-16"'}),
        ({"body": gzip.compress(JSON.encode())}, {"Content_Encoding": "gzip"}),
        ({"body": gzip.compress(JSON[:9].encode()) + gzip.compress(JSON[9:].encode())}, {"Content_Encoding": "GZIP"}),
        ({"body": JSON.encode()}, {"Content_Encoding": "identity"}),
    ],
)
def test_every_way_a_body_arrives_is_read(row: object, headers: dict[str, str]) -> None:
    """However it was sent, the same JSON comes out."""
    assert decode(row, **headers) == REQUEST


@pytest.mark.parametrize(
    ("row", "headers", "kind", "code"),
    [
        ({'{"input":"x': b"1"}, {"Content_Type": "application/x-www-form-urlencoded"}, UnsupportedBodyError, None),
        ({"body": b""}, {}, BadRequestError, "missing_body"),
        ({"body": b" \n"}, {}, BadRequestError, "missing_body"),
        ({}, {}, BadRequestError, "missing_body"),
        (None, {}, BadRequestError, "missing_body"),
        ({"file": b"{}"}, {"Content_Type": "multipart/form-data"}, BadRequestError, "missing_body"),
        ({"body": b"a text"}, {"Content_Type": "text/plain"}, BadRequestError, "invalid_json"),
        ({"body": b"a text"}, {}, BadRequestError, "invalid_json"),
        ({"body": b'{"input": NaN}'}, {}, BadRequestError, "invalid_json"),
        ({"body": b'"\\ud800"'}, {}, BadRequestError, "invalid_json"),
        ({"body": b"[" * 5000}, {}, BadRequestError, "invalid_json"),
        ({"body": JSON.encode("gbk")}, {}, BadRequestError, "invalid_charset"),
        ({"body": b"\xff\xfe\xfd"}, {"Content_Type": "a/b; charset=big5"}, BadRequestError, "invalid_charset"),
        ({"body": b"{}"}, {"Content_Type": "a/b; charset=punycode"}, UnsupportedBodyError, "unsupported_charset"),
        ({"body": b"{}"}, {"Content_Encoding": "br"}, UnsupportedBodyError, "unsupported_encoding"),
        ({"body": b"{}"}, {"Content_Encoding": "gzip, gzip"}, UnsupportedBodyError, "unsupported_encoding"),
        ({"body": b"{}"}, {"Content_Encoding": "gzip"}, BadRequestError, "invalid_gzip"),
        ({"body": {}}, {"Content_Encoding": "gzip"}, BadRequestError, "invalid_gzip"),
        ({"body": gzip.compress(b"{}")[:-3]}, {"Content_Encoding": "gzip"}, BadRequestError, "invalid_gzip"),
        ({"body": gzip.compress(b"{}") + b"more"}, {"Content_Encoding": "gzip"}, BadRequestError, "invalid_gzip"),
        ({"body": gzip.compress(b"") * 9}, {"Content_Encoding": "gzip"}, BadRequestError, "invalid_gzip"),
        ({"body": b" " * (LIMIT + 1)}, {}, TooLargeError, "body_too_large"),
        ({"body": gzip.compress(b" " * (LIMIT + 1))}, {"Content_Encoding": "gzip"}, TooLargeError, "body_too_large"),
    ],
)
def test_what_cannot_be_read_is_refused(
    row: object, headers: dict[str, str], kind: type[RequestError], code: str | None
) -> None:
    """Each unreadable body has its status and code."""
    with pytest.raises(kind) as caught:
        decode(row, **headers)

    assert caught.value.code == (code or "unsupported_media_type")


def test_a_form_body_names_the_header_to_send() -> None:
    """curl -d without a header is told which one is missing."""
    with pytest.raises(UnsupportedBodyError, match="Content-Type: application/json"):
        decode({'{"input":"x': b"1"}, Content_Type="application/x-www-form-urlencoded; charset=utf-8")


def test_plain_text_is_told_the_expected_form() -> None:
    """A text without JSON around it gets the form in the message."""
    with pytest.raises(BadRequestError, match=r'\{"input": "a text"\}'):
        decode({"body": b"a text"})


def test_a_gzip_bomb_costs_no_more_than_the_limit() -> None:
    """A small body that would unfold to hundreds of megabytes is refused before it does."""
    limit = 8 * 1024 * 1024
    bomb = gzip.compress(bytes(1024 * 1024)) * 7 + gzip.compress(bytes(200 * 1024 * 1024))

    tracemalloc.start()
    with pytest.raises(TooLargeError):
        decode_body({"body": bomb}, {"content-encoding": "gzip"}, max_bytes=limit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 3 * limit


def test_body_parts_do_not_pose_as_headers() -> None:
    """A part named like a header is a dict in TorchServe's header map, and none to us."""
    raw: dict[str, Any] = {"Content-Encoding": {"content-type": "x"}, "CONTENT-type": "text/plain"}

    assert request_headers(raw) == {"content-type": "text/plain"}


@given(st.binary(), st.text(), st.text())
def test_any_bytes_and_headers_are_read_or_refused(body: bytes, content_type: str, encoding: str) -> None:
    """Nothing but a RequestError comes out of a body that cannot be read."""
    for row in (
        {"body": body},
        {"data": body},
        {"body": body.decode("utf-8", "surrogatepass" if not body else "ignore")},
    ):
        for headers in ({}, {"Content_Type": content_type}, {"Content_Encoding": encoding}):
            try:
                decode(row, **headers)
            except RequestError:
                continue
