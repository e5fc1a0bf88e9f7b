"""What a request may be answered with instead of vectors.

RequestError                    status, type, param, code and a message for the client
├── BadRequestError       400   the request itself is wrong
├── NotFoundError         404   no such path or model here
├── TooLargeError         413   a limit of the archive is passed
├── UnsupportedBodyError  415   a body in a form that cannot be read
├── InternalError         500   our fault; the log says more
├── OverloadedError       503   the time for its batch was over
└── NoMemoryError         503   the device had no room just now

The worker's protocol with TorchServe encodes answers outside its own try: a lone surrogate or a newline in
the wrong place would end the worker. So messages are made safe here, and the status phrases are fixed.
"""

import reprlib
from http import HTTPStatus
from typing import ClassVar

import orjson

_SHOWN_CHARACTERS = 80

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = _SHOWN_CHARACTERS
_short.maxlevel = 2


class RequestError(Exception):
    """One request's failure; it never concerns the other requests of the batch."""

    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"
    retry_after_s: ClassVar[int | None] = None  # what the header of that name says; None: there is none

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        self.message = safe_text(message)
        self.param = param
        self.code = code
        super().__init__(self.message)

    @property
    def phrase(self) -> str:
        """The HTTP reason phrase of the status: fixed text, nothing of the client's."""
        return HTTPStatus(self.status).phrase

    def body(self) -> bytes:
        """The answer's body, in OpenAI's error form."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


class BadRequestError(RequestError):
    """400: the request is wrong as it stands."""


class NotFoundError(RequestError):
    """404: the path or the model is not served here."""

    status = 404


class TooLargeError(RequestError):
    """413: a limit of the archive is passed; the message names the limit."""

    status = 413


class UnsupportedBodyError(RequestError):
    """415: the body's form cannot be read; the message names the header to send."""

    status = 415


class InternalError(RequestError):
    """500: computing failed for a reason the client cannot mend."""

    status = 500
    type = "server_error"

    def __init__(self, message: str = "The server failed to compute this request; its log says why.") -> None:
        super().__init__(message, code="internal_error")


class OverloadedError(RequestError):
    """503: the time for its batch was over before this request was computed; a later try may pass."""

    status = 503
    type = "server_error"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__(
            "The server is busy: the time for the requests that came together with this one was over before it was "
            "computed. Try again, or send fewer texts in a request.",
            code="overloaded",
        )


class NoMemoryError(RequestError):
    """503: the memory did not suffice just now; a later or smaller request may pass."""

    status = 503
    type = "server_error"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__(
            "The server ran out of memory for this request; send fewer or shorter texts, or try again later.",
            code="out_of_memory",
        )


def safe_text(text: str) -> str:
    """The same text with lone surrogates written out, so that it can always be encoded as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shown(value: object) -> str:
    """A client's value as an error message may quote it: one line, shortened, encodable."""
    try:
        text = _short.repr(value)
    except Exception:  # noqa: BLE001 - repr of a hostile value; a message must come out whatever it is
        text = f"a {type(value).__name__}"
    return safe_text(text)
