"""One row of TorchServe's batch → the JSON value the client sent.

How a body arrives depends on its Content-Type and on TorchServe's `decode_input_request`: as bytes, as a str,
already parsed, as a multipart field, or (form-urlencoded) cut to pieces. Header names are spelled as the
client spelled them, and the header map also holds one entry a body part, under a name the client chose.
"""

import re
import zlib
from collections.abc import Mapping

import orjson

from .errors import BadRequestError, RequestError, TooLargeError, UnsupportedBodyError, shown

EXPECTED = '{"input": "a text"} or {"input": ["a text", "another"]}'

_FIELDS = ("body", "data")
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
# Named by the client, so only codecs known to take linear time; Python has others that do not.
_CHARSETS = {
    "utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be", "utf-32", "iso-8859-1", "latin1",
    "windows-1252", "gb2312", "gbk", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr",
}  # fmt: skip
_UTF8 = {"utf-8", "utf8", "us-ascii", "ascii"}
_BOM = b"\xef\xbb\xbf"
# Concatenated gzip members are legal, but each costs a copy of what follows it.
_GZIP_MEMBERS = 8


def request_headers(raw: Mapping[str, object]) -> dict[str, str]:
    """The request's headers by lower-case name, without the entries that TorchServe makes of body parts."""
    return {name.lower(): value for name, value in raw.items() if isinstance(value, str)}


def decode_body(row: object, headers: Mapping[str, str], *, max_bytes: int) -> object:
    """The JSON value of one row; `headers` as `request_headers` gives them, `max_bytes` after decompression.

    Raises BadRequestError (no JSON), TooLargeError (over max_bytes) or UnsupportedBodyError (form, charset,
    compression).
    """
    content_type = headers.get("content-type", "")
    value = _payload(row, content_type)
    compressed = _is_compressed(headers.get("content-encoding", ""))
    if isinstance(value, str):  # TorchServe decoded it as UTF-8
        value = value.encode("utf-8", "surrogatepass")
        content_type = ""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        if compressed:
            raise BadRequestError("Content-Encoding says gzip, but the body is not compressed", code="invalid_gzip")
        return value
    if len(value) > max_bytes:
        raise _too_large(max_bytes)
    data = _gunzip(bytes(value), max_bytes) if compressed else value
    return _parse(_to_utf8(data, content_type))


def _payload(row: object, content_type: str) -> object:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/x-www-form-urlencoded":
        raise UnsupportedBodyError(
            "a form-urlencoded body has been cut at '=' and '&' and cannot be read; "
            "send the header 'Content-Type: application/json' (curl: -H 'Content-Type: application/json')",
            code="unsupported_media_type",
        )
    if isinstance(row, Mapping):
        for name in _FIELDS:
            if name in row:
                return row[name]
        if row:
            raise BadRequestError(
                f"the upload has no field named 'data'; send the JSON there: curl -F 'data=@file', holding {EXPECTED}",
                code="missing_body",
            )
    raise BadRequestError(f"the request has no body; expected {EXPECTED}", code="missing_body")


def _is_compressed(content_encoding: str) -> bool:
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return False
    if encoding in ("gzip", "x-gzip"):
        return True
    raise UnsupportedBodyError(
        f"Content-Encoding {shown(content_encoding)} is not supported; send gzip or leave the header out",
        code="unsupported_encoding",
    )


def _gunzip(data: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = max_bytes
    for _ in range(_GZIP_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(data, room + 1)
        except zlib.error:
            raise BadRequestError(
                "Content-Encoding says gzip, but the body is not valid gzip", code="invalid_gzip"
            ) from None
        room -= len(part)
        if room < 0:
            raise _too_large(max_bytes)
        if not member.eof:
            raise BadRequestError("the gzip body ends before its end; it was cut on the way", code="invalid_gzip")
        parts.append(part)
        data = member.unused_data
        if not data:
            return b"".join(parts)
    raise BadRequestError(f"the gzip body has more than {_GZIP_MEMBERS} members", code="invalid_gzip")


def _to_utf8(data: bytes | bytearray | memoryview, content_type: str) -> bytes | bytearray | memoryview:
    named = _CHARSET.search(content_type)
    charset = named[1].lower() if named else "utf-8"
    if charset not in _CHARSETS:
        raise UnsupportedBodyError(
            f"charset {shown(charset)} is not supported; send 'Content-Type: application/json; charset=utf-8'",
            code="unsupported_charset",
        )
    if charset in _UTF8:
        return data[len(_BOM) :] if bytes(data[: len(_BOM)]) == _BOM else data
    try:
        return bytes(data).decode(charset).removeprefix("\ufeff").encode()
    except UnicodeError:
        raise BadRequestError(
            f"the body is not valid {charset}, the charset its header names", code="invalid_charset"
        ) from None


def _parse(data: bytes | bytearray | memoryview) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _not_json(data, error) from None


def _not_json(data: bytes | bytearray | memoryview, error: orjson.JSONDecodeError) -> RequestError:
    if not bytes(data).strip():
        return BadRequestError(f"the request has no body; expected {EXPECTED}", code="missing_body")
    try:
        bytes(data).decode()
    except UnicodeDecodeError as undecodable:
        return BadRequestError(
            f"the body is not UTF-8 (byte {undecodable.start}); send UTF-8, or name the charset in Content-Type",
            code="invalid_charset",
        )
    return BadRequestError(f"the body is not JSON: {error}; expected {EXPECTED}", code="invalid_json")


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {max_bytes} bytes (max_body_bytes)", code="body_too_large")
