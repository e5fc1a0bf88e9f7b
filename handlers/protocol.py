"""The JSON value a client sent → what it asks for.

OpenAI's embeddings request, checked here once so that everything behind can rely on it. Fields that are not
known are ignored, as OpenAI-compatible servers do: clients send `user` and fields of newer interfaces.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .body import EXPECTED
from .errors import BadRequestError, NotFoundError, TooLargeError, shown

EncodingFormat = Literal["float", "base64"]

# Known to every model, so that a client need not know whether this one has an instruction for them.
NEUTRAL_PROMPTS = {"query": "", "document": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What requests are checked against; `dimensions` is the model's own size, `vocabulary` its ids."""

    max_texts: int
    max_chars: int
    dimensions: int
    vocabulary: int
    models: Collection[str]
    prompts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One checked request: exactly one of `texts` (the prompt already in front) and `token_ids` is not empty."""

    texts: list[str]
    token_ids: list[list[int]]
    encoding_format: EncodingFormat = "float"
    dimensions: int | None = None
    truncate: bool = True

    def __len__(self) -> int:
        return len(self.texts) or len(self.token_ids)


def parse_request(value: object, limits: Limits) -> EmbeddingRequest:
    """The request this JSON value makes.

    Raises BadRequestError naming the field, NotFoundError for another model's name, TooLargeError naming the limit.
    """
    if not isinstance(value, dict):
        raise BadRequestError(f"the body is {_kind(value)}, not an object; expected {EXPECTED}", code="invalid_type")
    _check_model(value.get("model"), limits.models)
    texts, token_ids = _inputs(value, limits)
    if prompt := _prompt(value.get("prompt_name"), limits.prompts, token_ids):
        texts = [prompt + text for text in texts]
    return EmbeddingRequest(
        texts=texts,
        token_ids=token_ids,
        encoding_format=_encoding_format(value.get("encoding_format")),
        dimensions=_dimensions(value.get("dimensions"), limits.dimensions),
        truncate=_truncate(value.get("truncate")),
    )


def _inputs(value: Mapping[str, object], limits: Limits) -> tuple[list[str], list[list[int]]]:
    if value.get("input") is None:
        raise BadRequestError(f"'input' is missing; expected {EXPECTED}", param="input", code="missing_input")
    given: object = value["input"]
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list):
        raise _wrong_input(given)
    if not given:
        raise BadRequestError("'input' is an empty list; send at least one text", param="input", code="empty_input")
    if all(map(_is_text, given)):
        return _texts(given, limits), []
    if any(map(_is_text, given)):
        raise BadRequestError("'input' mixes texts with something else", param="input", code="invalid_type")
    nested = any(isinstance(item, (list, dict)) for item in given)
    return [], _token_lists(given if nested else [given], limits)


def _texts(texts: list[str], limits: Limits) -> list[str]:
    _check_count(len(texts), limits.max_texts)
    for index, text in enumerate(texts):
        if not text:
            raise BadRequestError(f"'input[{index}]' is an empty text", param="input", code="empty_input")
        if len(text) > limits.max_chars:
            raise TooLargeError(
                f"'input[{index}]' has {len(text)} characters; at most {limits.max_chars} are allowed (max_chars)",
                param="input",
                code="text_too_long",
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRequestError(
                f"'input[{index}]' has half of a surrogate pair at character {error.start}: no valid Unicode",
                param="input",
                code="invalid_unicode",
            ) from None
    return texts


def _token_lists(lists: Sequence[object], limits: Limits) -> list[list[int]]:
    _check_count(len(lists), limits.max_texts)
    checked: list[list[int]] = []
    for index, ids in enumerate(lists):
        name = f"input[{index}]"
        if not isinstance(ids, list):
            raise _wrong_input(ids)
        if not ids:
            raise BadRequestError(f"'{name}' is an empty list of token ids", param="input", code="empty_input")
        if len(ids) > limits.max_chars:
            raise TooLargeError(
                f"'{name}' has {len(ids)} token ids; at most {limits.max_chars} are allowed (max_chars)",
                param="input",
                code="text_too_long",
            )
        # The set of types costs one pass in C; bool is not int here, as it is to isinstance or ==.
        whole: list[Any] = ids if set(map(type, ids)) == {int} else list(map(_whole, ids))
        if None in whole:
            wrong = ids[whole.index(None)]
            raise BadRequestError(
                f"'{name}' holds {_kind(wrong)} ({shown(wrong)}); token ids are whole numbers",
                param="input",
                code="invalid_type",
            )
        if min(whole) < 0 or max(whole) >= limits.vocabulary:
            wrong = next(item for item in whole if not 0 <= item < limits.vocabulary)
            raise BadRequestError(
                f"'{name}' holds token id {shown(wrong)}; this model's ids are 0 to {limits.vocabulary - 1}",
                param="input",
                code="token_out_of_range",
            )
        checked.append(whole)
    return checked


def _check_count(count: int, max_texts: int) -> None:
    if count > max_texts:
        raise TooLargeError(
            f"'input' has {count} items; at most {max_texts} are allowed in a request (max_texts)",
            param="input",
            code="too_many_texts",
        )


def _check_model(model: object, served: Collection[str]) -> None:
    if model is None:
        return
    if not isinstance(model, str):
        raise BadRequestError(f"'model' is {_kind(model)}; a name is expected", param="model", code="invalid_type")
    if model not in served:
        raise NotFoundError(
            f"model {shown(model)} is not served here; this is {' or '.join(repr(name) for name in served)}",
            param="model",
            code="model_not_found",
        )


def _prompt(name: object, prompts: Mapping[str, str], token_ids: list[list[int]]) -> str:
    if name is None:
        return ""
    known = {**NEUTRAL_PROMPTS, **prompts}
    if not isinstance(name, str) or name not in known:
        raise BadRequestError(
            f"'prompt_name' is {shown(name)}; this model knows {', '.join(map(repr, sorted(known)))}",
            param="prompt_name",
            code="unknown_prompt",
        )
    if known[name] and token_ids:
        raise BadRequestError(
            "'prompt_name' goes with texts; put the prompt's own token ids in front of the token ids instead",
            param="prompt_name",
            code="prompt_with_token_ids",
        )
    return known[name]


def _encoding_format(value: object) -> EncodingFormat:
    match value:
        case None | "float":
            return "float"
        case "base64":
            return "base64"
    raise BadRequestError(
        f"'encoding_format' is {shown(value)}; 'float' or 'base64' is expected",
        param="encoding_format",
        code="invalid_value",
    )


def _dimensions(value: object, full: int) -> int | None:
    if value is None:
        return None
    whole = _whole(value)
    if whole is None or not 1 <= whole <= full:
        raise BadRequestError(
            f"'dimensions' is {shown(value)}; this model gives 1 to {full}", param="dimensions", code="invalid_value"
        )
    return whole


def _truncate(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, bool):
        raise BadRequestError(
            f"'truncate' is {shown(value)}; true or false is expected", param="truncate", code="invalid_type"
        )
    return value


def _whole(value: object) -> int | None:
    """A JSON number without a fraction, be it written 3.0; None for anything else."""
    return int(value) if type(value) is int or (type(value) is float and value.is_integer()) else None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _wrong_input(value: object) -> BadRequestError:
    return BadRequestError(
        f"'input' holds {_kind(value)} ({shown(value)}); a text, a list of texts, a list of token ids "
        "or a list of lists of token ids is expected",
        param="input",
        code="invalid_type",
    )


def _kind(value: object) -> str:
    names = {
        type(None): "null", bool: "a boolean", int: "a number", float: "a fractional number",
        str: "a text", list: "a list", dict: "an object",
    }  # fmt: skip
    return names.get(type(value), f"a {type(value).__name__}")
