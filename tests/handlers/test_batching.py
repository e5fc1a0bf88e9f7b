from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.batching import Chunk, plan
from handlers.shapes import Shapes, shapes_for

LONGEST = 600

lengths_of_batches = st.lists(st.integers(1, LONGEST), max_size=120)
some_shapes = st.builds(
    shapes_for,
    st.sampled_from(["torch", "openvino"]),
    st.just("cpu"),
    token_budget=st.integers(1, 5000),
    longest=st.just(LONGEST),
    packs=st.booleans(),
    batch_invariant=st.booleans(),
)


def filled(lengths: list[int], chunk: Chunk) -> list[int]:
    """The tokens of each row."""
    return [sum(lengths[index] for index in row) for row in chunk.rows]


def padding_share(lengths: Sequence[int], chunks: Sequence[Chunk]) -> float:
    """The part of the computed tokens that is padding, 0 to 1."""
    computed = sum(chunk.padded_tokens for chunk in chunks)
    return 1 - sum(lengths) / computed if computed else 0.0


def torch_on(device: str = "cpu", token_budget: int = 16_384) -> Shapes:
    return shapes_for("torch", device, token_budget=token_budget, longest=LONGEST, packs=False, batch_invariant=False)


@given(lengths_of_batches, some_shapes)
def test_every_text_is_in_exactly_one_chunk(lengths: list[int], shapes: Shapes) -> None:
    """The chunks are a permutation of the batch."""
    indices = [index for chunk in plan(lengths, shapes) for index in chunk.indices]

    assert sorted(indices) == list(range(len(lengths)))


@given(lengths_of_batches, some_shapes)
def test_no_chunk_passes_the_budget(lengths: list[int], shapes: Shapes) -> None:
    """But for a text that does alone; and its texts fit into its width and its rows."""
    for chunk in plan(lengths, shapes):
        assert chunk.padded_tokens <= shapes.budget or len(chunk.indices) == 1
        assert max(filled(lengths, chunk)) <= chunk.width <= LONGEST
        assert len(chunk.rows) <= chunk.height


@given(lengths_of_batches, some_shapes)
def test_shapes_are_those_the_backend_likes(lengths: list[int], shapes: Shapes) -> None:
    """Exact ones are no wider and no higher than their texts; others lie on the grid of widths and rows."""
    for chunk in plan(lengths, shapes):
        longest = max(filled(lengths, chunk))
        assert chunk.width == (longest if shapes.exact else shapes.rounded(longest))
        fixed = min(max(shapes.rows, default=0), max(1, shapes.budget // chunk.width))
        assert chunk.height in {*shapes.rows, fixed} if shapes.rows else chunk.height == len(chunk.rows)


@given(lengths_of_batches, some_shapes)
def test_chunks_go_from_long_to_short(lengths: list[int], shapes: Shapes) -> None:
    """Length never grows from one row to the next; texts with a row of their own keep their order at equal length."""
    chunks = plan(lengths, shapes)
    widths = [width for chunk in chunks for width in filled(lengths, chunk)]

    assert widths == sorted(widths, reverse=True)
    if not shapes.shared_rows:
        order = [index for chunk in chunks for index in chunk.indices]
        assert order == sorted(order, key=lambda index: (-lengths[index], index))


@given(lengths_of_batches, some_shapes)
def test_only_short_texts_share_rows(lengths: list[int], shapes: Shapes) -> None:
    """Together they fill no more than a shared row; no two rows of a plan would have fitted into one."""
    rows = [row for chunk in plan(lengths, shapes) for row in chunk.rows]
    used = sorted(sum(lengths[index] for index in row) for row in rows)
    shared = shapes.shared_row(max(lengths)) if lengths and shapes.shared_rows else 0

    assert all(sum(lengths[index] for index in row) <= shared for row in rows if len(row) > 1)
    assert len(used) < 2 or used[0] + used[1] > shared


@given(st.lists(st.integers(1, LONGEST), min_size=1, max_size=40), st.integers(1, LONGEST), some_shapes)
def test_an_invariant_width_is_the_texts_own(company: list[int], length: int, shapes: Shapes) -> None:
    """Where bits must not depend on company, a text is as wide in a batch as alone, as high only where that counts."""
    if not shapes.uniform:
        return
    (alone,) = plan([length], shapes)
    (among,) = [chunk for chunk in plan([length, *company], shapes) if [0] in chunk.rows]

    assert alone.width == among.width
    assert alone.height == among.height or len(shapes.rows) != 1


@given(st.lists(st.integers(1, LONGEST), min_size=2, max_size=60))
def test_no_cut_is_worth_less_than_a_pass(lengths: list[int]) -> None:
    """Joining two neighbouring passes never makes the batch cheaper: what the cut saves pays for the pass."""
    shapes = torch_on("cuda:0", token_budget=10**9)
    for one, other in pairwise(plan(lengths, shapes)):
        joined = shapes.cost(len(one.rows) + len(other.rows), shapes.rounded(one.width))
        apart = sum(shapes.cost(len(chunk.rows), shapes.rounded(chunk.width)) for chunk in (one, other))
        assert apart <= joined or joined > shapes.budget


@pytest.mark.parametrize(
    ("device", "passes"),
    [("cuda:0", 1), ("cpu", 2)],
)
def test_a_few_short_texts(device: str, passes: int) -> None:
    """On a GPU they share one pass, however different they are; on a CPU the long one goes alone."""
    assert len(plan([4, 60, 9, 12, 5, 8], torch_on(device))) == passes


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [([], 10, 0.0), ([5], 10, 0.0), ([4, 2], 80, 0.25), ([4, 2], 4, 0.0), ([50], 10, 0.0)],
)
def test_padding_is_counted(lengths: list[int], budget: int, expected: float) -> None:
    """The share of what is computed that nobody asked for."""
    assert padding_share(lengths, plan(lengths, torch_on("cuda:0", token_budget=budget))) == expected


@pytest.mark.parametrize(
    ("device", "backend", "texts"), [("cuda:0", "torch", 2048), ("cpu", "torch", 256), ("cpu", "openvino", 256)]
)
def test_mixed_lengths_waste_little(device: str, backend: str, texts: int) -> None:
    """A mix of texts of 5 to 250 tokens is padded by less than 5 %, rows and rounded widths counted."""
    lengths = [5 + (index * 97) % 246 for index in range(texts)]
    shapes = shapes_for(backend, device, token_budget=16_384, longest=256, packs=True, batch_invariant=False)

    assert padding_share(lengths, plan(lengths, shapes)) < 0.05


def test_short_texts_waste_little_in_few_shapes() -> None:
    """Batches of 32 texts of 4 to 40 tokens: padded by less than 5 %, and most passes have one of a dozen shapes."""
    shapes = shapes_for("openvino", "cpu", token_budget=16_384, longest=256, packs=True, batch_invariant=False)
    batches = [[4 + (seed * 31 + index * index * 97) % 37 for index in range(32)] for seed in range(60)]
    chunks = [chunk for lengths in batches for chunk in plan(lengths, shapes)]
    texts = [length for lengths in batches for length in lengths]
    common = Counter((chunk.width, chunk.height) for chunk in chunks).most_common(12)

    assert padding_share(texts, chunks) < 0.05
    assert sum(count for _, count in common) > 0.8 * len(chunks)


def test_openvino_gets_few_shapes() -> None:
    """What OpenVINO keeps for a shape is kept for good: random batches of any length make no more than 400 of them."""
    shapes = shapes_for("openvino", "cpu", token_budget=16_384, longest=512, packs=True, batch_invariant=False)
    seen = {
        (chunk.width, chunk.height)
        for seed in range(400)
        for chunk in plan([1 + (seed * 31 + index * index * 97) % 512 for index in range(1 + seed % 40)], shapes)
    }

    assert 20 < len(seen) <= 400
