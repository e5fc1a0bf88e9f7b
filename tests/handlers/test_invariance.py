"""batch_invariant: the same text gives the same bits, whatever shares its batch."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from handlers.encoding import Vectors
from handlers.engine import Engine
from handlers.invariance import check_invariance
from handlers.loading import LoadError
from handlers.processor import computes_bfloat16, flags
from handlers.sentence_handler import SentenceHandler
from handlers.shapes import shapes_for
from tests.handlers.conftest import BACKENDS
from tests.handlers.torchserve_wire import Worker, unpack
from tests.model_folders import minilm_folder

# Random batches by (shape, threads): two threads share out rows that are fixed then, which takes its time; "bge_wide"
# is as wide as bge-large-zh itself, as the choice of kernels goes by widths.
COMPOSITIONS = {("bge", 1): 100, ("bge", 2): 8, ("minilm", 1): 40, ("minilm", 2): 2, ("bge_wide", 1): 10}
CASES = [
    ("minilm", 1),
    ("bge", 1),
    pytest.param("minilm", 2, marks=pytest.mark.slow),
    pytest.param("bge", 2, marks=pytest.mark.slow),
    pytest.param("bge_wide", 1, marks=pytest.mark.slow),
]
CHARACTERS = "学而时习之不亦说乎有朋自远方来不亦乐乎"


def engine(folder: Path, converted: Path | None, target: Path, dtype: str, threads: int, *, invariant: bool) -> Engine:
    unpacked = unpack(
        target, folder, converted=converted, device="cpu", dtype=dtype, threads=threads, batch_invariant=invariant
    )
    return Worker(SentenceHandler(), unpacked).handler.engine


def texts() -> list[str]:
    """Texts of one token to some seventy, most of them short."""
    chance = random.Random(1)
    return ["".join(chance.choices(CHARACTERS, k=min(70, 1 + int(chance.expovariate(1 / 14))))) for _ in range(20)]


def companies(count: int, of: int) -> list[list[int]]:
    """Random batches: which texts, how many, in which order, some of them twice."""
    chance = random.Random(2)
    return [chance.choices(range(of), k=chance.randint(1, 20)) for _ in range(count)]


@pytest.mark.parametrize(("shape", "threads"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_vector_has_the_same_bits_in_any_company(
    shape: str, backend: str, dtype: str, threads: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Hundreds of random batches over models, backends, precisions and threads: each bit as when alone."""
    if backend == "openvino" and dtype == "bfloat16" and not computes_bfloat16(flags()):
        pytest.skip("this processor does not multiply bfloat16")
    folder = minilm_folder() if shape == "minilm" else request.getfixturevalue(f"{shape}_folder")
    converted = request.getfixturevalue(f"{shape}_converted") if backend == "openvino" else None
    loaded = engine(folder, converted, tmp_path / "unpacked", dtype, threads, invariant=True)
    some = texts()
    alone = np.concatenate([loaded.embed_texts([text]) for text in some])

    for company in companies(COMPOSITIONS[shape, threads], len(some)):
        together = loaded.embed_texts([some[place] for place in company])
        assert np.array_equal(alone[company], together)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_it_bits_do_vary(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """By torch they do, or the test above would prove nothing; by either, no more than documented. (Whether OpenVINO's
    vary depends on the processor.)"""
    converted = request.getfixturevalue("minilm_converted") if backend == "openvino" else None
    loaded = engine(minilm_folder(), converted, tmp_path / "unpacked", "float32", 1, invariant=False)
    some = texts()
    alone = np.concatenate([loaded.embed_texts([text]) for text in some])

    apart = 0.0
    for company in companies(10, len(some)):
        apart = max(apart, float(np.abs(alone[company] - loaded.embed_texts([some[place] for place in company])).max()))

    assert apart < 1e-6
    assert apart > 0 or backend == "openvino"


def test_it_is_tried_at_load() -> None:
    """A machine on which a text's company shows is found out, with the way out."""

    def honest(ids: Sequence[Sequence[int]]) -> Vectors:
        return np.array([[float(len(each))] for each in ids], dtype=np.float32)

    def swayed(ids: Sequence[Sequence[int]]) -> Vectors:
        return honest(ids) + np.float32(len(ids) > 5)

    shapes = shapes_for("openvino", "cpu", token_budget=16384, longest=512, packs=False, batch_invariant=True)
    check_invariance(honest, [7] * 60, shapes)
    with pytest.raises(LoadError, match=r"batch_invariant = true, and on this machine.*threads = 1"):
        check_invariance(swayed, [7] * 60, shapes)


def test_widths_beyond_the_random_texts_are_tried() -> None:
    """A machine that errs at one width, in a full pass alone, is found out; without time the longest is tried still."""
    shapes = shapes_for("openvino", "cpu", token_budget=16384, longest=512, packs=False, batch_invariant=True)
    heights: set[tuple[int, int]] = set()

    def at(width: int) -> Callable[[Sequence[Sequence[int]]], Vectors]:
        def embed(ids: Sequence[Sequence[int]]) -> Vectors:
            seen = shapes.rounded(max(map(len, ids)))
            heights.add((seen, len(ids)))
            return np.array([[float(sum(each) + (seen == width and len(ids) > 1))] for each in ids], dtype=np.float32)

        return embed

    ids = list(range(512))
    assert check_invariance(at(0), ids, shapes, seconds=60) == (32, 32)
    assert {(512, 3), (256, 6), (128, 12)} <= heights
    for width in (512, 288, 16):
        with pytest.raises(LoadError):
            check_invariance(at(width), ids, shapes, seconds=60)
    assert check_invariance(at(288), ids, shapes, seconds=0) == (1, 32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_width_up_to_the_longest(backend: str, dtype: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """To 512 tokens, as many rows at once as a pass may have: the bits of a row are those of the text alone."""
    if backend == "openvino" and dtype == "bfloat16" and not computes_bfloat16(flags()):
        pytest.skip("this processor does not multiply bfloat16")
    folder = request.getfixturevalue("bge_folder")
    converted = request.getfixturevalue("bge_converted") if backend == "openvino" else None
    loaded = engine(folder, converted, tmp_path / "unpacked", dtype, 1, invariant=True)
    assert loaded.max_tokens == 512
    tried, widths = check_invariance(loaded._embedder.embed, loaded.tokenizer.some_ids(512), loaded.shapes, seconds=120)
    assert tried == widths == 32


def test_a_promise_shows_in_the_fingerprint(bge_folder: Path, tmp_path: Path) -> None:
    """Vectors of both modes can be told apart."""
    unpacked = unpack(tmp_path, bge_folder, device="cpu", batch_invariant=True)

    assert " torch float32 batch-invariant kit=" in Worker(SentenceHandler(), unpacked).handler.card.fingerprint
