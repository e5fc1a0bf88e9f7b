import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import (
    BadRequestError,
    InternalError,
    NoMemoryError,
    NotFoundError,
    RequestError,
    TooLargeError,
    UnsupportedBodyError,
    safe_text,
    shown,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_body_has_openai_form() -> None:
    """The body is OpenAI's error object, all four keys always there."""
    error = BadRequestError("no 'input'", param="input", code="missing_input")

    expected = {
        "error": {
            "message": "no 'input'",
            "type": "invalid_request_error",
            "param": "input",
            "code": "missing_input",
        }
    }
    assert expected == orjson.loads(error.body())


@pytest.mark.parametrize(
    ("error", "status", "phrase", "kind"),
    [
        (BadRequestError("x"), 400, "Bad Request", "invalid_request_error"),
        (NotFoundError("x"), 404, "Not Found", "invalid_request_error"),
        (TooLargeError("x"), 413, "Request Entity Too Large", "invalid_request_error"),
        (UnsupportedBodyError("x"), 415, "Unsupported Media Type", "invalid_request_error"),
        (InternalError(), 500, "Internal Server Error", "server_error"),
        (NoMemoryError(), 503, "Service Unavailable", "server_error"),
    ],
)
def test_each_error_has_its_status(error: RequestError, status: int, phrase: str, kind: str) -> None:
    """Status, fixed phrase and type belong to the class."""
    assert (status, phrase, kind) == (error.status, error.phrase, error.type)


@given(st.text(st.characters(codec=None)))
def test_any_message_can_be_encoded(text: str) -> None:
    """A message with anything in it, lone surrogates included, makes a body."""
    assert safe_text(text) == orjson.loads(BadRequestError(text).body())["error"]["message"]


@given(anything | st.text(st.characters(codec=None), min_size=200))
def test_shown_values_are_short_single_lines(value: object) -> None:
    """What is quoted of a client's value is one short line that can be encoded."""
    text = shown(value)

    assert len(text) < 1000
    assert text.isprintable()
    text.encode()


def test_shown_survives_a_value_that_cannot_be_printed() -> None:
    """A repr that fails is replaced by the type's name."""

    class Hostile:
        def __repr__(self) -> str:
            raise ValueError

    assert "Hostile" in shown(Hostile())
