from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.batching import padding_share, plan

lengths_of_batches = st.lists(st.integers(1, 600), max_size=200)
budgets = st.integers(1, 5000)


@given(lengths_of_batches, budgets)
def test_every_text_is_in_exactly_one_chunk(lengths: list[int], budget: int) -> None:
    """The chunks are a permutation of the batch."""
    indices = [index for chunk in plan(lengths, budget) for index in chunk.indices]

    assert sorted(indices) == list(range(len(lengths)))


@given(lengths_of_batches, budgets)
def test_no_chunk_passes_the_budget(lengths: list[int], budget: int) -> None:
    """But for a text that is larger alone; and a chunk's width is its longest text's."""
    for chunk in plan(lengths, budget):
        assert chunk.padded_tokens <= budget or len(chunk.indices) == 1
        assert chunk.width == max(lengths[index] for index in chunk.indices)


@given(lengths_of_batches, budgets)
def test_chunks_go_from_long_to_short(lengths: list[int], budget: int) -> None:
    """Length never grows from one text to the next, and equal lengths keep their order."""
    order = [index for chunk in plan(lengths, budget) for index in chunk.indices]

    assert order == sorted(order, key=lambda index: (-lengths[index], index))


@given(lengths_of_batches, budgets)
def test_a_chunk_ends_for_a_reason(lengths: list[int], budget: int) -> None:
    """One text more would pass the budget, or the chunk is worth a pass and would be padded too much."""
    chunks = plan(lengths, budget)

    for chunk, following in pairwise(chunks):
        count = len(chunk.indices) + 1
        padded = chunk.width * count
        real = sum(lengths[index] for index in [*chunk.indices, following.indices[0]])
        too_much_padding = chunk.padded_tokens >= budget / 8 and padded - real > 0.04 * padded
        assert padded > budget or too_much_padding


def test_a_few_short_texts_share_one_pass() -> None:
    """However different they are: a pass each would cost more than the padding."""
    assert len(plan([4, 60, 9, 30], 16_384)) == 1


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [([], 10, 0.0), ([5], 10, 0.0), ([4, 2], 80, 0.25), ([4, 2], 4, 0.0), ([50], 10, 0.0)],
)
def test_padding_is_counted(lengths: list[int], budget: int, expected: float) -> None:
    """The share of what is computed that nobody asked for."""
    assert padding_share(lengths, plan(lengths, budget)) == expected


def test_mixed_lengths_waste_little() -> None:
    """A mix of 256 texts of 5 to 250 tokens is padded by less than 5 %."""
    lengths = [5 + (index * 97) % 246 for index in range(256)]

    assert padding_share(lengths, plan(lengths, 4096)) < 0.05
