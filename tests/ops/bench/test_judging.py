"""What is made of the figures: bars, headline, efficiency, memory, truth."""

from dataclasses import replace

import numpy as np
import orjson
import pytest

from handlers.card import ServingCard
from ops.bench import bars
from ops.bench.client import Shot
from ops.bench.headline import headline
from ops.bench.load import Load
from ops.bench.result import MemoryPoint
from ops.bench.run import efficiencies, memory_growth, most_others
from ops.bench.truth import Sample, Truth, stride, vector_of
from tests.ops.bench.sample import PHASE, PROFILE, RESULT

GOOD = Truth(100, 0, 0.9999, 0.999, "")
CARD = ServingCard(model="m", version="1", revision="r", kit="1")


def test_efficiency_bars_follow_backend_and_precision() -> None:
    """float32 has to reach 0.90 on short texts, bfloat16 0.85, both 0.95 on mixed; passages have no bar."""
    half = replace(CARD, dtype="bfloat16")
    assert [bar.met for bar in bars.efficiency(CARD, "short", 0.87)] == [False]
    assert [bar.met for bar in bars.efficiency(half, "short", 0.87)] == [True]
    assert [bar.limit for bar in bars.efficiency(half, "mixed", 0.87)] == [0.95]
    assert bars.efficiency(CARD, "passages", 0.1) == []


def test_overload_bars() -> None:
    """A lost worker, a slow refusal and a p99 far beyond a full queue are each missed on their own."""
    found = bars.overload("short", lost_workers=1, slowest_refusal_s=1.2, p99_s=2.6, full_queue_s=2.0)
    assert [bar.met for bar in found] == [False, False, False]
    found = bars.overload("short", lost_workers=0, slowest_refusal_s=0.2, p99_s=2.4, full_queue_s=2.0)
    assert [bar.met for bar in found] == [True, True, True]
    assert len(bars.overload("short", lost_workers=0, slowest_refusal_s=None, p99_s=None, full_queue_s=2.0)) == 1


def test_peers_are_judged_by_the_best_of_them() -> None:
    """The smallest ratio is the one that counts, of the peers that answered; torch float32 against infinity's."""
    (mosec,) = RESULT.peers
    points = [
        replace(mosec, ratio=5.0),
        replace(mosec, ratio=2.7),
        replace(mosec, profile="mixed", ratio=4.1),
        replace(mosec, peer="infinity", dtype="float32", ratio=3.0),
        replace(mosec, ratio=0.0, figures=replace(PHASE, answered=0)),
    ]
    openvino = replace(CARD, backend="openvino", dtype="bfloat16", device="cpu")
    assert [(bar.found, bar.met) for bar in bars.peers(openvino, "short", points)] == [(2.7, False)]
    assert [(bar.found, bar.met) for bar in bars.peers(openvino, "mixed", points)] == [(4.1, True)]
    assert [(bar.found, bar.limit) for bar in bars.peers(CARD, "short", points)] == [(3.0, 1.5)]
    assert bars.peers(CARD, "mixed", points) == []
    assert bars.peers(openvino, "passages", points) == []


def test_a_headline_begins_with_what_went_wrong() -> None:
    """Errors and wrong vectors first; a machine that was not free last; neither where all is well."""
    bad = headline("m", [PROFILE], replace(GOOD, wrong=2), errors=3, refused=0, others=0.4)
    assert bad.startswith("m: 3 ERRORS; 2 of 100 checked vectors WRONG; short 251 texts a second, 0.91")
    assert "40% of the cores" in bad
    fine = headline("m", [PROFILE], GOOD, errors=0, refused=7, others=0.01)
    assert fine == "m: short 251 texts a second, 0.91 of the bound 279; 7 refused at or above the ceiling"


def test_a_result_is_ok_without_errors_and_wrong_vectors() -> None:
    """Refusals above the ceiling are as it should be."""
    assert RESULT.ok
    assert not replace(RESULT, errors=1).ok
    assert not replace(RESULT, truth=replace(GOOD, wrong=1)).ok


def test_efficiency_is_taken_within_each_repeat() -> None:
    """Each repeat's texts a second over the best way of that very repeat."""
    (fast,) = PROFILE.timings[0]
    slow = replace(fast, way="plain", seconds=2 * fast.seconds)
    halves = [[fast, slow], [slow]]
    served = [replace(PHASE, texts_per_s=fast.texts_per_s), replace(PHASE, texts_per_s=fast.texts_per_s)]
    assert efficiencies(served, halves) == pytest.approx([1.0, 2.0])


def test_what_others_took_is_the_largest_share() -> None:
    """One disturbed closed loop, bound or peer is enough to say so."""
    (timing,) = PROFILE.timings[0]
    disturbed = replace(PROFILE, timings=[[timing], [replace(timing, others=0.3)]])
    assert most_others([PROFILE], []) == 0.0
    assert most_others([PROFILE, disturbed], []) == 0.3
    peers = [replace(point, figures=replace(PHASE, others=0.4)) for point in RESULT.peers]
    assert most_others([PROFILE, disturbed], peers) == 0.4


def test_memory_growth_counts_from_five_thousand_requests_on() -> None:
    """Growth before that, or before every kind of text was there, is loading; a shorter run has none to report."""
    points = [MemoryPoint(100, 100), MemoryPoint(5000, 1000), MemoryPoint(9000, 1500), MemoryPoint(120_000, 1100)]
    assert memory_growth(points) == pytest.approx(0.1)
    assert memory_growth(points[:2]) is None
    assert memory_growth(points, warmed_up=9000) == pytest.approx(1100 / 1500 - 1)
    assert [bar.met for bar in bars.memory(0.1, 120_000)] == [False]
    assert bars.memory(0.1, 9000) == []


def test_kept_answers_are_of_both_languages() -> None:
    """However many texts, some of them Chinese and some English are compared: they take turns."""
    for texts in (1, 24, 240, 2400):
        step = stride(texts, 24)
        assert step % 2 == 1
        assert texts // step <= 24 + 1
        kept = range(0, texts, step)
        assert {place % 2 for place in kept} == {0, 1} or len(kept) == 1


def body(vector: object) -> bytes:
    return orjson.dumps({"data": [{"embedding": vector}]})


def test_wrong_answers_are_found() -> None:
    """Another direction, another size, no vector, not JSON: each is wrong; a scaled right one is not."""
    texts = ["right", "turned", "short", "none", "garbage", "nan", "unkept"]
    bodies = [
        body([3.0, 0.0]),
        body([0.9, 0.1]),
        body([1.0]),
        b'{"data": []}',
        b"<html>",
        b'{"data":[{"embedding":[null,1]}]}',
    ]
    sample = Sample()
    sample.keep(Load((Shot(0, b"", 0.0),), 1.0, 0.0, dict(enumerate(bodies))), texts)
    assert sample.texts == texts[:-1]
    truth = sample.check({text: [1.0, 0.0] for text in texts})
    assert (truth.checked, truth.wrong, truth.min_cosine) == (6, 5, -1.0)


def test_nothing_to_check() -> None:
    """No answers, no cosine."""
    assert Sample().check({}) == Truth(0, 0, None, 0.999, "")


def test_the_vector_of_an_answer() -> None:
    """As the contract has it, in both formats; what is neither is no vector."""
    np.testing.assert_array_equal(vector_of(body([0.25, -1.0])), [0.25, -1.0])
    np.testing.assert_array_equal(vector_of(body("AACAPgAAgL8=")), [0.25, -1.0])
    for wrong in ("AACAPgAAgL8", "AACAPgAA", "", "?"):
        assert vector_of(body(wrong)) is None
