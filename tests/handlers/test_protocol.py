from typing import Any

import pytest

from handlers.errors import RequestError
from handlers.protocol import EmbeddingRequest, Limits, parse_request

LIMITS = Limits(
    max_texts=3,
    max_chars=10,
    dimensions=384,
    vocabulary=1000,
    models=("minilm", "minilm/1.0"),
    prompts={"query": "问：", "code": "code: "},
)


def parse(value: object) -> EmbeddingRequest:
    return parse_request(value, LIMITS)


@pytest.mark.parametrize(
    ("given", "texts", "token_ids"),
    [
        ("a", ["a"], []),
        (["a", "b"], ["a", "b"], []),
        ([1, 2], [], [[1, 2]]),
        ([[1, 2], [0, 999]], [], [[1, 2], [0, 999]]),
        (" \u0000", [" \u0000"], []),
        ("😀" * 10, ["😀" * 10], []),
    ],
)
def test_every_form_of_input_is_read(given: object, texts: list[str], token_ids: list[list[int]]) -> None:
    """One text, texts, one list of ids, lists of ids."""
    request = parse({"input": given})

    assert (texts, token_ids) == (request.texts, request.token_ids)
    assert len(request) == max(len(texts), len(token_ids))


@pytest.mark.parametrize(
    ("value", "status", "param", "code"),
    [
        ([], 400, None, "invalid_type"),
        (None, 400, None, "invalid_type"),
        ("a text", 400, None, "invalid_type"),
        ({}, 400, "input", "missing_input"),
        ({"input": None}, 400, "input", "missing_input"),
        ({"input": []}, 400, "input", "empty_input"),
        ({"input": ""}, 400, "input", "empty_input"),
        ({"input": ["a", ""]}, 400, "input", "empty_input"),
        ({"input": [[]]}, 400, "input", "empty_input"),
        ({"input": [[1], []]}, 400, "input", "empty_input"),
        ({"input": 1}, 400, "input", "invalid_type"),
        ({"input": True}, 400, "input", "invalid_type"),
        ({"input": {"text": "a"}}, 400, "input", "invalid_type"),
        ({"input": [{}]}, 400, "input", "invalid_type"),
        ({"input": ["a", 1]}, 400, "input", "invalid_type"),
        ({"input": ["a", ["b"]]}, 400, "input", "invalid_type"),
        ({"input": [None]}, 400, "input", "invalid_type"),
        ({"input": [1.5]}, 400, "input", "invalid_type"),
        ({"input": [1, True]}, 400, "input", "invalid_type"),
        ({"input": [1e300]}, 400, "input", "token_out_of_range"),
        ({"input": [True]}, 400, "input", "invalid_type"),
        ({"input": [float("nan")]}, 400, "input", "invalid_type"),
        ({"input": [1, [2]]}, 400, "input", "invalid_type"),
        ({"input": [[1], 2]}, 400, "input", "invalid_type"),
        ({"input": [[[1]]]}, 400, "input", "invalid_type"),
        ({"input": [[1, "a"]]}, 400, "input", "invalid_type"),
        ({"input": [-1]}, 400, "input", "token_out_of_range"),
        ({"input": [[0], [1000]]}, 400, "input", "token_out_of_range"),
        ({"input": [10**30]}, 400, "input", "token_out_of_range"),
        ({"input": "half \ud800"}, 400, "input", "invalid_unicode"),
        ({"input": ["a"] * 4}, 413, "input", "too_many_texts"),
        ({"input": [[1]] * 4}, 413, "input", "too_many_texts"),
        ({"input": "a" * 11}, 413, "input", "text_too_long"),
        ({"input": [1] * 11}, 413, "input", "text_too_long"),
        ({"input": "a", "model": "gpt"}, 404, "model", "model_not_found"),
        ({"input": "a", "model": 1}, 400, "model", "invalid_type"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format", "invalid_value"),
        ({"input": "a", "encoding_format": ["float"]}, 400, "encoding_format", "invalid_value"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions", "invalid_value"),
        ({"input": "a", "dimensions": 385}, 400, "dimensions", "invalid_value"),
        ({"input": "a", "dimensions": True}, 400, "dimensions", "invalid_value"),
        ({"input": "a", "dimensions": 8.5}, 400, "dimensions", "invalid_value"),
        ({"input": "a", "prompt_name": "other"}, 400, "prompt_name", "unknown_prompt"),
        ({"input": "a", "prompt_name": []}, 400, "prompt_name", "unknown_prompt"),
        ({"input": [1], "prompt_name": "query"}, 400, "prompt_name", "prompt_with_token_ids"),
        ({"input": "a", "truncate": "no"}, 400, "truncate", "invalid_type"),
        ({"input": "a", "truncate": 0}, 400, "truncate", "invalid_type"),
    ],
)
def test_a_wrong_request_is_refused(value: object, status: int, param: str | None, code: str) -> None:
    """Each wrong field has its status, and is named."""
    with pytest.raises(RequestError) as caught:
        parse(value)

    assert (status, param, code) == (caught.value.status, caught.value.param, caught.value.code)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"input": ["a"] * 4}, r"4 items.*3.*max_texts"),
        ({"input": ["a", "b" * 11]}, r"input\[1\].*11 characters.*10.*max_chars"),
        ({"input": [[0], [5, 1000]]}, r"input\[1\].*1000.*0 to 999"),
        ({"input": "a", "dimensions": 385}, r"385.*1 to 384"),
        ({"input": "a", "prompt_name": "other"}, r"'other'.*'code', 'document', 'query'"),
        ({"input": "a", "model": "gpt"}, r"'gpt'.*'minilm'"),
    ],
)
def test_a_refusal_says_what_is_allowed(value: object, told: str) -> None:
    """The message holds the value and the limit."""
    with pytest.raises(RequestError, match=told):
        parse(value)


def test_a_whole_number_may_be_written_with_a_fraction() -> None:
    """3.0 is 3, as some clients' languages have one kind of number alone; the ids are whole numbers afterwards."""
    request = parse({"input": [[1.0, 2], [3]], "dimensions": 8.0})

    assert (request.token_ids, request.dimensions) == ([[1, 2], [3]], 8)
    assert {type(number) for ids in request.token_ids for number in (*ids, request.dimensions)} == {int}


@pytest.mark.parametrize("model", ["minilm", "minilm/1.0", None])
def test_the_served_model_may_be_named(model: str | None) -> None:
    """By name, by name and version, or not at all."""
    assert parse({"input": "a", "model": model}).texts == ["a"]


@pytest.mark.parametrize(
    ("name", "expected"), [("query", "问：a"), ("code", "code: a"), ("document", "a"), (None, "a")]
)
def test_a_prompt_goes_in_front(name: str | None, expected: str) -> None:
    """The named prompt is put before the text; 'document' is known to every model."""
    assert parse({"input": "a", "prompt_name": name}).texts == [expected]


def test_a_prompt_without_text_goes_with_token_ids() -> None:
    """A name that means no prompt is no error for token ids."""
    assert parse({"input": [1], "prompt_name": "document"}).token_ids == [[1]]


def test_options_have_openai_defaults() -> None:
    """null is as good as leaving a field out, and unknown fields are ignored."""
    nothing: dict[str, Any] = dict.fromkeys(("encoding_format", "dimensions", "truncate", "user", "new_field"))

    assert parse({"input": "a"}) == parse({"input": "a", **nothing, "user": {"any": "thing"}})
    assert parse({"input": "a"}) == EmbeddingRequest(texts=["a"], token_ids=[])
