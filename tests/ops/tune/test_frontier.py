"""Trials → frontier, choice, headline."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ops.tune.frontier import Trial, choose, frontier, nearest
from ops.tune.result import headline
from tests.ops.tune.sample import PLAN, START, TRIALS, run, trial

FIGURES = st.tuples(st.integers(1, 50), st.integers(1, 50))


@given(st.lists(FIGURES, max_size=30))
def test_nobody_beats_the_frontier(figures: list[tuple[int, int]]) -> None:
    """No trial has more throughput and no longer p99 than one on it; whoever is beaten by none is on it."""
    trials = [trial(speed, p99, batch_size=number) for number, (speed, p99) in enumerate(figures, 1)]
    best = {(one.texts_per_s, one.p99_s) for one in frontier(trials)}
    for one in trials:
        beaten = any(
            each.texts_per_s >= one.texts_per_s
            and each.p99_s <= one.p99_s
            and (each.texts_per_s, each.p99_s) != (one.texts_per_s, one.p99_s)
            for each in trials
        )
        assert beaten != ((one.texts_per_s, one.p99_s) in best)


def test_the_choice_is_the_fastest_that_meets_the_aim() -> None:
    """Faster ones that miss it, and those that are out, are passed over; where none meets it, there is the nearest."""
    chosen = choose(TRIALS, 0.05)
    assert chosen is not None
    assert chosen.candidate.batch_size == 16
    assert choose(TRIALS, 0.01) is None
    near = nearest(TRIALS)
    assert near is not None
    assert near.candidate == START
    assert nearest([TRIALS[-1]]) is None


def test_several_runs_count_by_their_median() -> None:
    """One run in which the machine was busy does not decide."""
    one = Trial(START, (run(100, 40), run(60, 400), run(98, 44)))
    assert (one.texts_per_s, one.p99_s) == (98, 0.044)
    assert one.meets(0.05)
    assert not replace(one, reason="a wrong vector").meets(0.05)


def test_the_headline_says_what_to_know() -> None:
    """Choice against what is there now; nothing that meets the aim, with the nearest; interruption and company."""
    line = headline("minilm", TRIALS, START, PLAN, ended="time", others=0.2)
    assert "the time limit ended the search" in line
    assert "batch 16, delay 1 ms, budget 16384: 263 texts a second at most, p99 48.5 ms at 70% of that (1 run)" in line
    assert "1.05 times what models.toml has now" in line
    assert "other work took up to 20% of the cores" in line
    none = headline("minilm", TRIALS, START, replace(PLAN, p99_s=0.01), ended="interrupted", others=0.0)
    assert none.startswith(
        "minilm, mixed texts: INTERRUPTED; nothing that was tried meets p99 10 ms; nearest is 2 work"
    )
    only = headline("minilm", TRIALS[:1], START, PLAN, ended="finished", others=0.0)
    assert only.endswith("it is what models.toml has now")
    assert "nothing could be measured" in headline("minilm", TRIALS[-1:], START, PLAN, ended="finished", others=0.0)
