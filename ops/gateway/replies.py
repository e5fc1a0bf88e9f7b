"""Answers that HAProxy gives itself, in the kit's error form, as its configuration writes them."""

from collections.abc import Mapping
from pathlib import Path

import orjson

from ops.errors import OpsError

# Stands in a message where the name comes that a client asked for.
ASKED = "<asked>"
_ASKED = "%[var(txn.asked),bytes(0,256),json(utf8s)]"


def quoted(text: str) -> str:
    """A text for HAProxy, where single quotes keep everything but themselves."""
    assert "'" not in text, text
    return f"'{text}'"


def path_word(path: Path) -> str:
    """A path for HAProxy's configuration, to be put in quotes.

    Raises:
        OpsError: it has a character that means something there.
    """
    text = str(path)
    if any(char in text for char in "'\"\\,\n"):
        raise OpsError(f"{text!r}: HAProxy cannot take a path with quotes, commas or backslashes: move it")
    return text


def as_json(value: object) -> str:
    """JSON that can stand in single quotes."""
    return orjson.dumps(value).decode().replace("'", "\\u0027")


def reply(status: int, body: str, headers: Mapping[str, str] | None = None) -> str:
    """The arguments of `http-request return` and `http-error` for a JSON body."""
    text = f"string {quoted(body)}"
    if ASKED in body:
        text = f"lf-string {quoted(body.replace('%', '%%').replace(ASKED, _ASKED))}"
    given = "".join(f" hdr {name} {quoted(value)}" for name, value in (headers or {}).items())
    return f"status {status} content-type application/json {text}{given}"


def error(
    status: int, code: str, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
) -> str:
    """The arguments for an error; `type` follows from the status, as in handlers/errors.py; a 429's is OpenAI's own."""
    kind = "requests" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return reply(status, as_json(body), headers)
