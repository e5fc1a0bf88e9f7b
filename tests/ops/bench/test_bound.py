"""The bound: how work is dealt, which way wins, and that the packed engine really computes the model's vectors."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archives.archive import read_archive
from archives.catalogue import ModelSpec
from archives.fetch import fetch
from archives.pack import pack
from archives.placement import Layout
from archives.plan import LockInfo
from archives.progress import SILENT
from archives.verify import unpack
from env.hardware import Gpu, Hardware
from handlers.card import ServingCard
from ops.bench.bound import BATCH_TOKENS, BoundMeter, Material, Timing, batch_tokens, best, deal, ways
from ops.bench.children import Children, engine_spec, plain_spec, with_threads
from ops.bench.contention import Contention
from ops.bench.texts import Texts
from ops.bench.truth import cosine
from ops.errors import OpsError
from ops.settings import Settings

CARD = ServingCard(model="tiny", version="1", revision="r", kit="1")
GPU = Gpu(0, "GPU-0", "a GPU", 1 << 34, 1 << 34)


def test_shares_are_equal_work() -> None:
    """Every text in exactly one share; sizes and lengths balanced."""
    texts = Texts(1).take("mixed", 101)
    shares = deal(texts, 4)
    assert sorted(text for share in shares for text in share) == sorted(texts)
    assert {len(share) for share in shares} <= {25, 26}
    lengths = [sum(map(len, share)) for share in shares]
    assert max(lengths) < 1.15 * min(lengths)
    assert deal(["a"], 3) == [["a"], [], []]


def test_the_fastest_way_is_the_bound() -> None:
    """By the median of the repeats: one lucky run does not make a bound."""
    timings = [Timing("a", 100, 1000, seconds, None) for seconds in (1.0, 1.0, 1.0)]
    timings += [Timing("b", 100, 1000, seconds, None) for seconds in (0.5, 2.0, 2.0)]
    found = best(timings)
    assert (found.way, found.texts_per_s, found.tokens_per_s) == ("a", 100.0, 1000.0)
    assert found.ways == {"a": 100.0, "b": 50.0}
    with pytest.raises(ValueError, match="nothing was timed"):
        best([])


def test_ways_follow_the_hardware() -> None:
    """All threads in one process and a process a core on CPU; one and two processes a GPU; plain encode always."""
    on_cpu = [(way.kind, way.processes, way.threads) for way in ways(CARD, Hardware(4, 0))]
    assert on_cpu == [("engine", 1, 4), ("engine", 4, 1), ("plain", 1, 4)]
    assert [way.processes for way in ways(CARD, Hardware(1, 0))] == [1, 1]
    on_gpu = [(way.kind, way.processes, way.threads) for way in ways(CARD, Hardware(8, 0, (GPU,)))]
    assert on_gpu == [("engine", 1, 8), ("engine", 2, 4), ("plain", 1, 8)]
    assert [way.processes for way in ways(replace(CARD, device="cpu"), Hardware(2, 0, (GPU,)))] == [1, 2, 1]


def test_a_gpu_is_not_tried_with_batches_that_leave_it_idle() -> None:
    """No pass of one or two long texts there; on the CPU every batch size is tried, also beside a GPU."""
    assert batch_tokens(CARD, Hardware(8, 0, (GPU,))) == (None, 4096)
    assert batch_tokens(CARD, Hardware(8, 0)) == BATCH_TOKENS
    assert batch_tokens(replace(CARD, device="cpu"), Hardware(8, 0, (GPU,))) == BATCH_TOKENS


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """A tiny model of the bge shape, its archive unpacked."""
    from tests.model_folders import make_bge_shaped

    folder, store = make_bge_shaped(tmp_path_factory.mktemp("m") / "tiny"), tmp_path_factory.mktemp("store")
    entry = {"name": "tiny", "source": {"folder": folder}, "handler": "bge", "device": "cpu", "dtype": "float32"}
    spec = ModelSpec.model_validate(entry)
    layout = Layout(workers=1, threads=1, on_gpu=False)
    packed = pack(spec, fetch(spec, store), layout, store, lock=LockInfo("cpu", "ab" * 32))
    unpack(packed.path, store / "unpacked")
    card = read_archive(packed.path).card
    assert card.threads == 1
    return Material(store / "unpacked", folder, card, Hardware(2, 0), 512)


def embedded(children: Children, texts: Sequence[str]) -> list[list[float]]:
    vectors: list[list[float]] = children.ask([texts], {"do": "vectors"})[0]["vectors"]
    return vectors


@pytest.mark.slow
def test_the_packed_engine_and_plain_encode_agree(material: Material) -> None:
    """The engine of the archive, with other threads than its card says, gives sentence-transformers' vectors."""
    texts = Texts(2).take("mixed", 12)
    plain = plain_spec(material.model, threads=1, dtype="float32", max_tokens=512, device="cpu")
    with with_threads(material.unpacked, 2) as folder, Children([engine_spec(folder)], threads=2) as engine:
        ours = embedded(engine, texts)
        assert engine.about["max_tokens"] == 512
        assert engine.about["fingerprint"].startswith("tiny/1.0 ")
        assert len(engine.ask([texts], {"do": "alone"})[0]["seconds"]) == len(texts)
        lengths = engine.ask([texts], {"do": "lengths"})[0]["lengths"]
        assert 6 <= min(lengths) < max(lengths) <= 512
    with Children([plain], threads=1) as reference:
        theirs = embedded(reference, texts)
    assert min(cosine(np.asarray(a), b) for a, b in zip(ours, theirs, strict=True)) > 0.9999
    assert cosine(np.asarray(ours[0]), theirs[1]) < 0.999


@pytest.mark.slow
def test_texts_tokenized_ahead_are_computed_all(material: Material) -> None:
    """As for a GPU, seven at a time while others are computed: the same tokens as all at once."""
    texts = Texts(5).take("mixed", 31)
    spec = engine_spec(material.unpacked)
    with Children([spec, spec | {"ahead": 7}], threads=1) as both:
        at_once, ahead = both.ask([texts, texts], {"do": "all", "batch_tokens": None})
    assert at_once["tokens"] == ahead["tokens"] > 31 * 4


@pytest.mark.slow
def test_every_way_computes_every_text(material: Material, tmp_path: Path) -> None:
    """A timing a way, each over all texts and their real tokens."""
    source = Texts(3)
    texts, sample = source.take("short", 31), source.take("short", 16)
    meter = BoundMeter(material, trial_s=0.01, passes=2)
    contention = Contention(Settings(var=tmp_path), os.cpu_count() or 1)
    found = meter.measure({"short": texts}, {"short": sample}, contention, SILENT)["short"]
    assert [timing.way for timing in found] == [way.name for way in ways(material.card, material.hardware)]
    assert {timing.texts for timing in found} == {31}
    assert len({timing.tokens for timing in found}) == 1
    assert found[0].tokens > 31 * 4
    assert all(timing.seconds > 0 for timing in found)
    assert all(0 <= timing.others <= 1 for timing in found)


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    """Its last words are in the error, and nothing waits for ever."""
    with pytest.raises(OpsError, match="embedkit_entry"), Children([engine_spec(tmp_path)], threads=1):
        pass
