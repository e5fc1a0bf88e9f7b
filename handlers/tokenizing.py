"""Texts and token ids → what the model reads, with true counts.

The same ids as sentence-transformers 2.2.2 makes (strip, optional lower-casing, truncation with the special
tokens kept), but for a whole batch in one call, without padding, and knowing what was cut off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import BadRequestError, TooLargeError

_PROBE = "a"


class FastTokenizer(Protocol):
    """The part of a transformers fast tokenizer that is used here."""

    truncation_side: str

    @property
    def backend_tokenizer(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text: the ids the model reads, special tokens included, and how many there were before the cut."""

    ids: list[int]
    full_length: int

    @property
    def truncated(self) -> bool:
        return self.full_length > len(self.ids)


class BatchTokenizer:
    """Tokenizes batches; `max_tokens` is the cut, special tokens included.

    Takes over the tokenizer it is given: calling that one afterwards would change the settings made here.
    Raises ValueError where `max_tokens` leaves no room beside the special tokens.
    """

    def __init__(self, tokenizer: FastTokenizer, *, max_tokens: int, lower_case: bool = False) -> None:
        self.max_tokens = max_tokens
        self._lower_case = lower_case
        self._cut_left = tokenizer.truncation_side == "left"
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self._backend.no_truncation()
        self._prefix, self._suffix = self._special_tokens()
        if self._room < 1:
            raise ValueError(
                f"max_tokens = {max_tokens} leaves no room for text beside "
                f"{len(self._prefix) + len(self._suffix)} special tokens"
            )
        self._backend.enable_truncation(
            max_tokens, strategy="longest_first", direction="left" if self._cut_left else "right"
        )

    def encode_texts(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, in order."""
        cleaned = [text.strip() for text in texts]
        if self._lower_case:
            cleaned = [text.lower() for text in cleaned]
        specials = len(self._prefix) + len(self._suffix)
        encoded = []
        for encoding in self._backend.encode_batch_fast(cleaned):
            ids = encoding.ids
            cut_off = sum(len(piece) - specials for piece in encoding.overflowing)
            encoded.append(Tokens(ids, len(ids) + cut_off))
        return encoded

    def encode_ids(self, lists: Sequence[list[int]]) -> list[Tokens]:
        """The same for ids the client made: special tokens are put around them where they are not there yet."""
        return [self._around(ids) for ids in lists]

    @property
    def _room(self) -> int:
        return self.max_tokens - len(self._prefix) - len(self._suffix)

    def _around(self, ids: list[int]) -> Tokens:
        start = len(self._prefix) if ids[: len(self._prefix)] == self._prefix else 0
        end = len(ids)
        if self._suffix and end - start >= len(self._suffix) and ids[-len(self._suffix) :] == self._suffix:
            end -= len(self._suffix)
        content = ids[start:end]
        kept = content[-self._room :] if self._cut_left else content[: self._room]
        specials = len(self._prefix) + len(self._suffix)
        return Tokens([*self._prefix, *kept, *self._suffix], len(content) + specials)

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        encoding = self._backend.encode(_PROBE)
        is_special = encoding.special_tokens_mask
        first = is_special.index(0) if 0 in is_special else len(is_special)
        last = len(is_special) - is_special[::-1].index(0) if 0 in is_special else first
        return encoding.ids[:first], encoding.ids[last:]


def check_tokens(
    encoded: Sequence[Tokens], *, limit: int, most: int, truncate: bool, unembedded: Mapping[int, str] | None = None
) -> None:
    """Whether one request's texts can be computed; `limit` is the model's for a text, `most` the card's for all
    texts of a request, `truncate` the request's wish, `unembedded` the ids that no embedding is there for.

    Raises BadRequestError for the first text that holds no token at all, or one without an embedding, or, without
    `truncate`, for the first that was cut, naming it, its tokens and the limit; TooLargeError for more than `most`
    tokens together.
    """
    together = sum(len(tokens.ids) for tokens in encoded)
    if together > most:
        raise TooLargeError(
            f"'input' has {together} tokens; at most {most} are allowed in a request (max_request_tokens): "
            "send it in several",
            param="input",
            code="too_many_tokens",
        )
    for index, tokens in enumerate(encoded):
        if not tokens.ids:
            raise BadRequestError(
                f"'input[{index}]' holds nothing that this model's tokenizer reads", param="input", code="empty_input"
            )
        if unembedded and (odd := next((number for number in tokens.ids if number in unembedded), None)) is not None:
            raise BadRequestError(
                f"'input[{index}]' has the token {unembedded[odd]!r} (id {odd}), which this model's tokenizer makes "
                "and its embeddings lack: leave it out of the text",
                param="input",
                code="token_without_embedding",
            )
        if tokens.truncated and not truncate:
            raise BadRequestError(
                f"'input[{index}]' has {tokens.full_length} tokens; this model reads {limit}, "
                "and 'truncate' is false: shorten the text or leave 'truncate' out",
                param="input",
                code="context_length_exceeded",
            )
