"""Long texts are tokenized in part, and get the ids that the whole has."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from handlers.boundaries import boundaries_of
from handlers.deadline import Deadline, TimeUpError
from handlers.tokenizing import BatchTokenizer
from tests.model_folders import minilm_folder

MOST = 12  # tokens that are read, so that short texts are long ones already
CORPUS = [
    "the quick brown fox jumps over the lazy dog's back, and 1,234.5 other words",
    "Ünïcödé naïve café ΣΊΣΥΦΟΣ İstanbul straße e\u0301 ﬁ ½",
    "教练我想打篮球，北京的秋天很美，适合散步。漢字かな交じり文 한국어 텍스트",
    "tabs\tand\nlines\r\n  and   blanks \u00a0\u3000 \u200b\u0d4e 😀👩‍👩‍👧 ''`` <mask> [MASK]",
]


def wordpiece() -> Tokenizer:
    made: Tokenizer = AutoTokenizer.from_pretrained(str(minilm_folder())).backend_tokenizer
    return made


def cased_wordpiece() -> Tokenizer:
    made = wordpiece()
    made.normalizer = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, lowercase=False)
    return made


def byte_level() -> Tokenizer:
    """As RoBERTa's: `<mask>` takes the blanks before it."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS * 5, trainer)
    made.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("word", single_word=True)])
    made.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return made


def unigram(*, lines_are_blanks: bool) -> Tokenizer:
    """As ALBERT's and XLM-RoBERTa's, with Metaspace."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    metaspace = pre_tokenizers.Metaspace()
    made.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace]) if lines_are_blanks else metaspace
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(CORPUS * 5, trainer)
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return made


MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "WordPiece": wordpiece,
    "cased WordPiece": cased_wordpiece,
    "byte-level BPE": byte_level,
    "Unigram": lambda: unigram(lines_are_blanks=False),
    "Unigram, blanks split": lambda: unigram(lines_are_blanks=True),
}


class Compared:
    """One tokenizer that reads whole texts, beside ours of the same."""

    def __init__(self, make: Callable[[], Tokenizer], side: str, *, lower_case: bool = False) -> None:
        self._whole, self._lower_case = make(), lower_case
        given = SimpleNamespace(truncation_side=side, backend_tokenizer=Tokenizer.from_str(self._whole.to_str()))
        self._whole.no_padding()
        self._whole.enable_truncation(MOST, direction=side)
        self.ours = BatchTokenizer(given, max_tokens=MOST, lower_case=lower_case)
        assert boundaries_of(given.backend_tokenizer) is not None

    def whole(self, text: str) -> tuple[list[int], int]:
        cleaned = text.strip().lower() if self._lower_case else text.strip()
        encoding = self._whole.encode(cleaned)
        pieces = [encoding, *encoding.overflowing]
        special = sum(encoding.special_tokens_mask)
        return encoding.ids, sum(len(piece.ids) - special for piece in pieces) + special


@pytest.fixture(scope="module", params=[(name, side) for name in MAKERS for side in ("right", "left")], ids=str)
def compared(request: pytest.FixtureRequest) -> Compared:
    name, side = request.param
    return Compared(MAKERS[name], side, lower_case=name == "WordPiece")


pieces = st.sampled_from([word for line in CORPUS for word in line.split(" ")]) | st.text(max_size=5)
gaps = st.sampled_from([" ", " ", "", "\n", "\t ", "\r\n", "  ", "\u3000", "\u00a0"]) | st.integers(1, 400).map(
    " ".__mul__
)
ideographs = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=400)
giants = st.tuples(st.sampled_from("xé教Σ́-"), st.integers(90, 500)).map(lambda pair: pair[0] * pair[1])
texts = st.lists(st.tuples(pieces | ideographs | giants, gaps), max_size=80).map(
    lambda parts: "".join(part for pair in parts for part in pair)
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@example(text="x" + " " * 5000 + "y")
@example(text="x" * 5000)
@example(text="word " * 500)
@example(text="教练" * 500)
@example(text="ΑΣ " * 300)
@example(text="word <mask> " * 300)
@given(text=texts)
def test_part_of_a_text_gives_the_ids_of_the_whole(compared: Compared, text: str) -> None:
    """Whatever the text, the ids are those of tokenizing it whole and cutting then; the count before the cut is the
    whole's, or is known to be a lower bound."""
    expected, length = compared.whole(text)

    (got,) = compared.ours.encode_texts([text])

    assert got.ids == expected
    assert got.full_length <= length
    assert got.truncated == (length > MOST)
    assert got.full_length == length or not got.counted


def test_what_is_beyond_the_cut_is_not_tokenized(compared: Compared) -> None:
    """A hundred times longer text is no more work, in any script with blanks."""
    text = "some words, and more of them. " * 30_000

    read = compared.ours.characters([text])

    assert read < 400 or read == len(text) == 900_000
    assert compared.ours.encode_texts([text])[0].ids == compared.whole(text)[0]


def test_time_is_looked_at_between_slices() -> None:
    """Texts without any place to cut are tokenized whole, some at a time, and no longer than there is time."""
    given = SimpleNamespace(truncation_side="right", backend_tokenizer=wordpiece())
    tokenizer = BatchTokenizer(given, max_tokens=256)
    started = time.monotonic()
    with pytest.raises(TimeUpError):
        tokenizer.encode_texts(["é-" * 50_000] * 500, Deadline.after(0.5))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.add_tokens(["new york"]),
        lambda made: made.add_tokens(["中文"]),
        lambda made: setattr(made, "normalizer", normalizers.Prepend("_")),
        lambda made: setattr(made, "normalizer", normalizers.Replace(" ", "x")),
        lambda made: setattr(made, "normalizer", normalizers.Replace(Regex(" {2,}"), "x")),
        lambda made: setattr(made, "pre_tokenizer", pre_tokenizers.Punctuation()),
        lambda made: setattr(made, "pre_tokenizer", pre_tokenizers.Metaspace(split=False)),
        lambda made: setattr(made, "pre_tokenizer", pre_tokenizers.ByteLevel(use_regex=False)),
        lambda made: setattr(made, "pre_tokenizer", pre_tokenizers.Split(Regex("x"), "isolated")),
        lambda made: setattr(made, "model", models.BPE(dropout=0.1)),
    ],
)
def test_what_is_not_known_is_not_cut(change: Callable[[Any], object]) -> None:
    """Added tokens with blanks in them, normalizers that make or take blanks, pre-tokenizers that do not split at
    them, chance: then a text is tokenized whole."""
    made = wordpiece()
    assert boundaries_of(made) is not None
    change(made)
    assert boundaries_of(made) is None
