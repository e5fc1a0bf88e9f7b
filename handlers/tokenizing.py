"""Texts and token ids → what the model reads, with true counts.

The same ids as sentence-transformers 2.2.2 makes (strip, optional lower-casing, truncation with the special
tokens kept), but for a whole batch in one call, without padding, and knowing what was cut off. Of a long text no more
is tokenized than it takes to fill what the model reads.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .boundaries import boundaries_of
from .deadline import NEVER, Deadline, TimeUpError
from .errors import BadRequestError, TooLargeError

_PROBE = "a"
# Prose has 2 (Chinese) to 5 characters a token: so many are looked at first, and four times as many where they are
# too few.
_CHARACTERS_A_TOKEN = 6
_MORE = 4
# Characters that are tokenized in one call: a tenth of a second, and some 3 MB while it lasts.
_SLICE_CHARACTERS = 1 << 15


class FastTokenizer(Protocol):
    """The part of a transformers fast tokenizer that is used here."""

    truncation_side: str

    @property
    def backend_tokenizer(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text: the ids the model reads, special tokens included, and how many there were before the cut: at least,
    where the text was not looked at to its end and they are not `counted`.
    """

    ids: list[int]
    full_length: int
    counted: bool = True

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
        self._boundaries = boundaries_of(self._backend)

    def encode_texts(self, texts: Sequence[str], deadline: Deadline = NEVER) -> list[Tokens]:
        """The tokens of each text, in order.

        Raises TimeUpError where the deadline passes before all are there.
        """
        cleaned = [text.strip() for text in texts]
        if self._lower_case:
            cleaned = [text.lower() for text in cleaned]
        encoded: dict[int, Tokens] = {}
        characters, waiting = self._looked_at, list(range(len(cleaned)))
        while waiting:
            pieces = [self._piece(cleaned[index], characters) for index in waiting]
            start = 0
            for end in _slices([len(piece) for piece in pieces]):
                if deadline.passed:
                    raise TimeUpError
                found = self._backend.encode_batch_fast(pieces[start:end], add_special_tokens=False)
                for index, piece, encoding in zip(waiting[start:end], pieces[start:end], found, strict=True):
                    ids, whole = encoding.ids, len(piece) == len(cleaned[index])
                    if whole or len(ids) > self._room:
                        encoded[index] = self._dressed(ids, counted=whole)
                start = end
            waiting = [index for index in waiting if index not in encoded]
            characters *= _MORE
        return [encoded[index] for index in range(len(cleaned))]

    def encode_ids(self, lists: Sequence[list[int]]) -> list[Tokens]:
        """The same for ids the client made: special tokens are put around them where they are not there yet."""
        return [self._around(ids) for ids in lists]

    def characters(self, texts: Sequence[str]) -> int:
        """How many characters of these texts have to be looked at, at least."""
        return sum(len(self._piece(text, self._looked_at)) for text in texts)

    def some_ids(self, count: int) -> list[int]:
        """So many tokens that the model can compute, for measuring."""
        ids: list[int] = self._backend.encode(_PROBE).ids
        return (ids * count)[:count]

    def some_texts(self, characters: int) -> list[str]:
        """About so many characters in words of the whole vocabulary, in texts that are read to their end."""
        vocabulary = self._backend.get_vocab_size()
        text = str(self._backend.decode(list(range(0, vocabulary, max(1, 4 * vocabulary // characters))))) or _PROBE
        return [text[start : start + self._looked_at] for start in range(0, len(text), self._looked_at)]

    @property
    def _looked_at(self) -> int:
        return _CHARACTERS_A_TOKEN * self._room

    def _piece(self, text: str, characters: int) -> str:
        """What of a text is looked at for so many characters of it, on the side that is kept."""
        if len(text) <= characters or self._boundaries is None:
            return text
        cut = self._boundaries.end if self._cut_left else self._boundaries.beginning
        return cut(text, characters)

    @property
    def _room(self) -> int:
        return self.max_tokens - len(self._prefix) - len(self._suffix)

    def _around(self, ids: list[int]) -> Tokens:
        start = len(self._prefix) if ids[: len(self._prefix)] == self._prefix else 0
        end = len(ids)
        if self._suffix and end - start >= len(self._suffix) and ids[-len(self._suffix) :] == self._suffix:
            end -= len(self._suffix)
        return self._dressed(ids[start:end])

    def _dressed(self, content: list[int], *, counted: bool = True) -> Tokens:
        """A text's ids, cut, with the special tokens around them."""
        kept = content[-self._room :] if self._cut_left else content[: self._room]
        specials = len(self._prefix) + len(self._suffix)
        return Tokens([*self._prefix, *kept, *self._suffix], len(content) + specials, counted)

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        encoding = self._backend.encode(_PROBE)
        is_special = encoding.special_tokens_mask
        first = is_special.index(0) if 0 in is_special else len(is_special)
        last = len(is_special) - is_special[::-1].index(0) if 0 in is_special else first
        return encoding.ids[:first], encoding.ids[last:]


def _slices(lengths: Sequence[int]) -> Iterator[int]:
    """The ends of runs of texts that have _SLICE_CHARACTERS together at most, or are one text."""
    together = 0
    for index, length in enumerate(lengths):
        if together and together + length > _SLICE_CHARACTERS:
            yield index
            together = 0
        together += length
    yield len(lengths)


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
            many = tokens.full_length if tokens.counted else f"more than {limit}"
            raise BadRequestError(
                f"'input[{index}]' has {many} tokens; this model reads {limit}, "
                "and 'truncate' is false: shorten the text or leave 'truncate' out",
                param="input",
                code="context_length_exceeded",
            )
