from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.models import Transformer

from handlers.errors import BadRequestError, TooLargeError
from handlers.tokenizing import BatchTokenizer, Tokens, check_tokens
from tests.model_folders import minilm_folder

CLS, SEP = 101, 102


@pytest.fixture(scope="module")
def reference() -> Transformer:
    return Transformer.load(str(minilm_folder()))


@pytest.fixture(scope="module")
def tokenizer() -> BatchTokenizer:
    return BatchTokenizer(Transformer.load(str(minilm_folder())).tokenizer, max_tokens=256)


@settings(deadline=None, max_examples=150)
@given(texts=st.lists(st.text(max_size=600), min_size=1, max_size=6))
def test_ids_equal_sentence_transformers(texts: list[str], reference: Transformer, tokenizer: BatchTokenizer) -> None:
    """For any texts, the ids are those of sentence-transformers' own tokenizing, without its padding."""
    features = reference.tokenize(texts)
    expected = [
        ids[mask.bool()].tolist() for ids, mask in zip(features["input_ids"], features["attention_mask"], strict=True)
    ]

    assert expected == [tokens.ids for tokens in tokenizer.encode_texts(texts)]


def test_lower_casing_is_done_where_the_folder_asks(bge_folder: Path) -> None:
    """do_lower_case lowers the text before the tokenizer sees it."""
    reference = Transformer.load(str(bge_folder))
    expected = reference.tokenize(["ẞ İ ABC 教练"])["input_ids"][0].tolist()
    assert reference.do_lower_case

    tokenizer = BatchTokenizer(reference.tokenizer, max_tokens=512, lower_case=True)

    assert expected == tokenizer.encode_texts(["ẞ İ ABC 教练"])[0].ids


@pytest.mark.parametrize("words", [1, 253, 254, 255, 300])
def test_tokens_are_counted_before_the_cut(words: int, tokenizer: BatchTokenizer) -> None:
    """A word is a token here, two more are special; 256 are read."""
    (tokens,) = tokenizer.encode_texts(["word " * words])

    assert (tokens.full_length, len(tokens.ids), tokens.counted) == (words + 2, min(words + 2, 256), True)
    assert tokens.truncated == (words > 254)
    assert (tokens.ids[0], tokens.ids[-1]) == (CLS, SEP)


def test_a_long_text_is_not_counted_to_its_end(tokenizer: BatchTokenizer) -> None:
    """Of a text that is cut anyway, what is beyond the cut is known to be there, and not how much it is."""
    (tokens,) = tokenizer.encode_texts(["word " * 20_000])

    assert tokens.truncated
    assert not tokens.counted
    assert 256 < tokens.full_length < 512
    assert (tokens.ids[0], tokens.ids[-1]) == (CLS, SEP)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([7, 8], [CLS, 7, 8, SEP]),
        ([CLS, 7, 8, SEP], [CLS, 7, 8, SEP]),
        ([CLS, 7, 8], [CLS, 7, 8, SEP]),
        ([7, 8, SEP], [CLS, 7, 8, SEP]),
        ([CLS], [CLS, SEP]),
        ([CLS, SEP], [CLS, SEP]),
        ([SEP], [CLS, SEP]),
        ([7, CLS, SEP, 8], [CLS, 7, CLS, SEP, 8, SEP]),
    ],
)
def test_token_ids_get_the_special_tokens_they_lack(
    given: list[int], expected: list[int], tokenizer: BatchTokenizer
) -> None:
    """Around the client's ids stand the special tokens, once."""
    assert tokenizer.encode_ids([given]) == [Tokens(expected, len(expected))]


@pytest.mark.parametrize("with_specials", [True, False])
def test_token_ids_are_cut_like_texts(with_specials: bool, tokenizer: BatchTokenizer) -> None:
    """The special tokens survive the cut, and what was there is counted."""
    content = [7] * 300

    (tokens,) = tokenizer.encode_ids([[CLS, *content, SEP] if with_specials else content])

    assert tokens == Tokens([CLS, *content[:254], SEP], 302)


def test_a_left_cut_keeps_the_end() -> None:
    """Where the tokenizer's truncation_side is left, texts and ids lose their beginning."""
    from_folder = Transformer.load(str(minilm_folder())).tokenizer
    from_folder.truncation_side = "left"
    tokenizer = BatchTokenizer(from_folder, max_tokens=6)
    (text,) = tokenizer.encode_texts(["one two three four five six seven"])
    (whole,) = BatchTokenizer(Transformer.load(str(minilm_folder())).tokenizer, max_tokens=256).encode_texts(
        ["one two three four five six seven"]
    )

    assert (text.ids, text.truncated) == ([CLS, *whole.ids[-5:]], True)
    assert tokenizer.encode_ids([whole.ids]) == [Tokens(text.ids, 9)]


def test_no_room_for_text_is_refused() -> None:
    """A limit that only the special tokens fill serves nothing."""
    with pytest.raises(ValueError, match="max_tokens = 2 leaves no room"):
        BatchTokenizer(Transformer.load(str(minilm_folder())).tokenizer, max_tokens=2)


def test_a_cut_text_is_named_where_cutting_is_not_wanted() -> None:
    """The error holds the item, its tokens and the limit; with truncate there is none."""
    encoded = [Tokens([1, 2], 2), Tokens([1, 2], 9)]

    check_tokens(encoded, limit=2, most=100, truncate=True)
    check_tokens(encoded[:1], limit=2, most=100, truncate=False)
    with pytest.raises(BadRequestError, match=r"input\[1\].*has 9 tokens.*reads 2"):
        check_tokens(encoded, limit=2, most=100, truncate=False)
    with pytest.raises(BadRequestError, match=r"input\[0\].*has more than 2 tokens.*reads 2"):
        check_tokens([Tokens([1, 2], 9, counted=False)], limit=2, most=100, truncate=False)


def test_a_text_without_tokens_is_refused() -> None:
    """Some tokenizers make nothing of white space, and nothing has no vector."""
    with pytest.raises(BadRequestError, match=r"input\[1\].*nothing"):
        check_tokens([Tokens([1], 1), Tokens([], 0)], limit=2, most=100, truncate=True)


def test_a_request_of_too_many_tokens_is_refused() -> None:
    """The texts of one request together stay below the card's limit, so that none keeps a worker for minutes."""
    encoded = [Tokens([1, 2, 3], 3), Tokens([4, 5], 2)]
    check_tokens(encoded, limit=8, most=5, truncate=True)
    with pytest.raises(TooLargeError, match="5 tokens; at most 4"):
        check_tokens(encoded, limit=8, most=4, truncate=True)
