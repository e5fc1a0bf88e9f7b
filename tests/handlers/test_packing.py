"""Rows of several texts: each text sees itself alone, and gets the vector it would get in a row of its own."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.models import Dense, Pooling
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from handlers.batching import plan
from handlers.loading import LoadedModel
from handlers.modeling import TorchEmbedder
from handlers.padding import packed
from handlers.shapes import shapes_for

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 200,
}
PAD = {"bert": 0, "xlm-roberta": 1}
MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
}


def loaded(kind: str, pooling: str, *more: Any) -> LoadedModel:
    """A small model with random weights, without a tokenizer: only ids are given to it."""
    torch.manual_seed(0)
    if kind == "bert":
        auto_model: Any = BertModel(BertConfig(**SIZES))
    else:
        auto_model = XLMRobertaModel(XLMRobertaConfig(**SIZES, pad_token_id=1))
    modes = dict.fromkeys(MODES.values(), False) | {MODES[pooling]: True}
    return LoadedModel(
        transformer=SimpleNamespace(auto_model=auto_model.eval()),
        modules=(
            Pooling(SIZES["hidden_size"], **modes),
            *more,
        ),
        tokenizer=None,
        dimensions=SIZES["hidden_size"],
        vocabulary=SIZES["vocab_size"],
        own_limit=None,
        position_limit=None,
        lower_case=False,
        pad_token_id=PAD[kind],
    )


def embedder(model: LoadedModel, *, packs: bool) -> TorchEmbedder:
    shapes = shapes_for("torch", "cpu", token_budget=512, longest=150, packs=packs, batch_invariant=False)
    return TorchEmbedder(model, device="cpu", shapes=shapes)


def some_texts(count: int, seed: int = 0) -> list[list[int]]:
    """Ids of texts of 2 to 140 tokens, most of them short; padding's own id among them."""
    chance = np.random.default_rng(seed)
    lengths = np.minimum(140, 2 + chance.exponential(14, count).astype(int))
    return [[int(token) for token in chance.integers(0, SIZES["vocab_size"], length)] for length in lengths]


@pytest.mark.parametrize("pooling", ["cls", "mean", "mean_sqrt_len_tokens"])
@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_text_in_a_shared_row_gets_its_own_vector(kind: str, pooling: str) -> None:
    """As near as float32 comes, for models that count positions from 0 and for those that count behind the padding."""
    model = loaded(kind, pooling, Dense(SIZES["hidden_size"], 24).eval())
    texts = some_texts(40)
    assert model.can_pack

    together = embedder(model, packs=True).embed(texts)
    apart = np.concatenate([embedder(model, packs=False).embed([text]) for text in texts])

    assert together.shape == (40, 24)
    assert float((together * apart).sum(axis=1).min()) > 0.999999


@pytest.mark.parametrize("more", [(), (Pooling(32),)], ids=["max", "two"])
def test_what_is_no_weighted_sum_keeps_rows_of_its_own(more: tuple[Any, ...]) -> None:
    """A model that pools otherwise, or twice, is told apart."""
    assert not loaded("bert", "mean" if more else "max", *more).can_pack


@given(
    st.lists(st.lists(st.integers(1, 59), min_size=1, max_size=130), min_size=1, max_size=40),
    st.sampled_from(["torch", "openvino"]),
    st.sampled_from(["cls", "mean", "mean_sqrt_len_tokens"]),
    st.sampled_from([None, 1]),
)
def test_each_text_is_whole_and_sees_itself_alone(
    texts: list[list[int]], backend: str, pooling: str, padding_position: int | None
) -> None:
    """Its ids lie in order, its positions count up, its mask covers just itself, and its weights are its own."""
    shapes = shapes_for(backend, "cpu", token_budget=512, longest=150, packs=True, batch_invariant=False)
    for chunk in plan([len(text) for text in texts], shapes):
        rows = packed(texts, chunk, 0, padding_position, pooling)
        most = rows.pool.shape[1]
        assert rows.mask.any(axis=2).all()  # no softmax over nothing, in dummy rows either
        assert len(set(rows.seats.tolist())) == len(chunk.indices)
        for index, seat in zip(chunk.indices, rows.seats.tolist(), strict=True):
            row, place = divmod(seat, most)
            text, weights = texts[index], rows.pool[row, place]
            first = int(np.flatnonzero(weights)[0])
            mine = np.arange(first, first + len(text))
            assert rows.input_ids[row, mine].tolist() == text
            seen = rows.mask[row, first if rows.mask.shape[1] > 1 else 0]
            assert np.array_equal(np.flatnonzero(seen), mine)
            if padding_position is None:
                assert rows.position_ids[row, mine].tolist() == list(range(len(text)))
            expected = {"cls": 1.0, "mean": 1 / len(text), "mean_sqrt_len_tokens": len(text) ** -0.5}[pooling]
            counted = 1 if pooling == "cls" else len(text)
            assert np.count_nonzero(weights) == counted
            np.testing.assert_allclose(weights[mine[:counted]], expected, rtol=1e-6)
