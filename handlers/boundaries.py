"""Where a text can be cut so that what stands on one side is tokenized as it is within the whole.

Known tokenizers alone: where anything in one is not known here, its texts are tokenized whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

# Each looks at single characters and those that combine with them, or at blanks: nothing passes a boundary.
_NORMALIZERS = frozenset(
    {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Precompiled", "Strip"}
)
# What Replace may look for, and put there: quotes of two signs, and runs of blanks.
_REPLACED = ({"String": "``"}, {"String": "''"}, {"Regex": " {2,}"})
_REPLACEMENTS = frozenset({'"', " "})
# Each of these ends a piece before a blank of any kind, and the first three leave the blanks out.
_DROP_BLANKS = frozenset({"BertPreTokenizer", "WhitespaceSplit", "Whitespace"})
_SPLIT_AT_BLANKS = _DROP_BLANKS | {"ByteLevel"}
_PRE_TOKENIZERS = _SPLIT_AT_BLANKS | {"Metaspace", "Punctuation", "Digits"}
_MODELS = frozenset({"WordPiece", "BPE", "Unigram", "WordLevel"})
_BLANKS = " \t\n\r"
# A letter that forms one character with whatever follows it, a blank too (Unicode's Prepend).
_PREPENDED = "\u0d4e"
_LOOKED_AT = 2048


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Before one of the `blanks` that follows a letter or digit, and with `ideographs` between two of Chinese.

    `both_sides`: the end of a text behind a boundary is tokenized as in the whole too, not only its beginning.
    """

    blanks: str
    ideographs: bool
    both_sides: bool

    def beginning(self, text: str, characters: int) -> str:
        """The first `characters` of a text at most, cut at a boundary; the whole text where none is near."""
        if len(text) <= characters:
            return text
        places = range(characters, max(0, characters - _LOOKED_AT), -1)
        return next((text[:at] for at in places if self._is(text[at - 1], text[at])), text)

    def end(self, text: str, characters: int) -> str:
        """The same for the last `characters`."""
        if len(text) <= characters or not self.both_sides:
            return text
        places = range(len(text) - characters, min(len(text), len(text) - characters + _LOOKED_AT))
        return next((text[at:] for at in places if self._is(text[at - 1], text[at])), text)

    def _is(self, before: str, after: str) -> bool:
        if after in self.blanks:
            return before.isalnum() and before <= "\uffff" and before != _PREPENDED
        return self.ideographs and _is_ideograph(before) and _is_ideograph(after)


def boundaries_of(backend: Any) -> Boundaries | None:
    """Where the texts of a `tokenizers.Tokenizer` can be cut; None where that is not certain."""
    normalizers, pre_tokenizers = _parts(backend.normalizer), _parts(backend.pre_tokenizer)
    kinds = {each["type"] for each in pre_tokenizers}
    if (
        not kinds & {*_SPLIT_AT_BLANKS, "Metaspace"}
        or not all(map(_known_normalizer, normalizers))
        or not all(map(_known_pre_tokenizer, pre_tokenizers))
        or type(backend.model).__name__ not in _MODELS
        or getattr(backend.model, "dropout", None)
        # An added token is found first, and across any boundary that it holds.
        or not all(_has_no_boundary(each.content) for each in backend.get_added_tokens_decoder().values())
    ):
        return None
    bert = [each["type"] for each in normalizers] == ["BertNormalizer"]
    return Boundaries(
        blanks=_BLANKS if kinds & _SPLIT_AT_BLANKS else " ",
        ideographs=bert and kinds == {"BertPreTokenizer"} and normalizers[0]["handle_chinese_chars"],
        both_sides=(bert or not normalizers) and kinds <= _DROP_BLANKS,
    )


def _known_normalizer(part: dict[str, Any]) -> bool:
    if part["type"] == "Replace":
        return part["pattern"] in _REPLACED and part["content"] in _REPLACEMENTS
    return part["type"] in _NORMALIZERS


def _known_pre_tokenizer(part: dict[str, Any]) -> bool:
    # Without its own splitting, a Metaspace or ByteLevel makes one piece of a whole text.
    own = {"ByteLevel": "use_regex", "Metaspace": "split"}.get(part["type"])
    return part["type"] in _PRE_TOKENIZERS and (own is None or part.get(own, True))


def _parts(component: Any) -> list[dict[str, Any]]:
    return [] if component is None else list(_flat(orjson.loads(component.__getstate__())))


def _flat(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if part["type"] == "Sequence":
        for each in part.get("normalizers") or part.get("pretokenizers") or []:
            yield from _flat(each)
    else:
        yield part


def _has_no_boundary(token: str) -> bool:
    return token.isascii() and not set(_BLANKS) & set(token)


def _is_ideograph(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"
