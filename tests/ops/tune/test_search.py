"""The order of trials, from results alone."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from env.hardware import Hardware
from ops.tune.clock import Schedule
from ops.tune.frontier import Trial, choose
from ops.tune.search import RUNS, better, propose, repeat
from ops.tune.space import Candidate, dimensions, start_of
from tests.ops.tune.sample import run, trial
from tests.ops.tune.test_space import spec

CORES = Hardware(2, 16 << 30)
LADDERS = dimensions(spec(), CORES, 0.05)
START = start_of(spec(), CORES)
AIM = 0.05
Surface = Callable[[Candidate], Trial]


def searched(surface: Surface) -> dict[Candidate, Trial]:
    """All that is tried until nothing is proposed any more."""
    done: dict[Candidate, Trial] = {}
    while (there := propose(START, LADDERS, done, AIM)) is not None:
        assert there not in done
        done[there] = surface(there)
    return done


def test_it_begins_with_what_models_toml_has() -> None:
    """The first proposal is the start, whatever it may come to."""
    assert propose(START, LADDERS, {}, AIM) == START


def test_it_climbs_to_the_top_of_a_hill() -> None:
    """Where each dimension has one best rung, that of all of them is found, in a part of all combinations."""
    best = Candidate(1, 2, 128, 5, 512)

    def hill(one: Candidate) -> Trial:
        off = sum(abs(ladder.at(one) - ladder.at(best)) for ladder in LADDERS)
        return Trial(one, (run(300 * 0.9**off, 20),))

    done = searched(hill)
    chosen = choose(done.values(), AIM)
    assert chosen is not None
    assert chosen.candidate == best
    assert len(done) <= 20


def test_a_start_that_misses_the_aim_is_left_for_one_that_meets_it() -> None:
    """Smaller batches are slower and quicker to answer: the search goes down until the aim is met."""
    done = searched(lambda one: Trial(one, (run(100 + one.batch_size, 3 * one.batch_size),)))
    chosen = choose(done.values(), AIM)
    assert chosen is not None
    assert chosen.candidate.batch_size == 16


def test_what_cannot_be_measured_is_gone_around() -> None:
    """The start does not fit: fewer workers do, and are found."""

    def surface(one: Candidate) -> Trial:
        if one.workers > 1:
            return Trial(one, reason="skipped: too little memory")
        return Trial(one, (run(100, 20),))

    chosen = choose(searched(surface).values(), AIM)
    assert chosen is not None
    assert chosen.candidate.workers == 1


@given(st.integers(0, 2**32))
def test_it_ends_on_any_surface(seed: int) -> None:
    """Even where figures are random: no candidate twice, and an end."""

    def surface(one: Candidate) -> Trial:
        draw = hash((seed, one)) % 1000
        return Trial(one, (run(50 + draw, 20 + draw % 60),)) if draw % 9 else Trial(one, reason="out")

    assert searched(surface)


def test_less_than_the_margin_is_no_gain() -> None:
    """A hundredth more is noise, a tenth is not; meeting the aim counts before throughput."""
    now = trial(100, 40)
    assert not better(trial(101, 40, batch_size=64), now, AIM)
    assert better(trial(110, 40, batch_size=64), now, AIM)
    assert not better(trial(200, 60, batch_size=64), now, AIM)
    assert better(trial(10, 49), trial(200, 60), AIM)
    assert better(trial(10, 60), trial(200, 70), AIM)
    assert not better(trial(10, 66), trial(200, 70), AIM)


def test_the_leaders_and_the_start_are_measured_again() -> None:
    """Three leaders and what models.toml has, those with the fewest runs first, until each has enough."""
    trials = [trial(90, 40), *(trial(100 + batch, 40, batch_size=batch) for batch in (8, 16, 64, 128))]
    done = {one.candidate: one for one in trials}
    asked = []
    while (there := repeat(START, done, AIM)) is not None:
        asked.append(there)
        done[there] = Trial(there, (*done[there].runs, done[there].runs[0]))
    assert {one.batch_size for one in asked[:4]} == {32, 16, 64, 128}
    assert all(len(done[one].runs) <= RUNS for one in done)


def test_as_many_candidates_and_runs_as_asked() -> None:
    """Two candidates, two runs each, and no more."""
    schedule, done = Schedule(START, LADDERS, AIM, 300.0, most=2, runs=2), dict[Candidate, Trial]()
    while (there := schedule.next(done, 200.0)) is not None:
        done[there] = Trial(there, (*(done[there].runs if there in done else ()), run(100, 20)))
    assert [len(one.runs) for one in done.values()] == [2, 2]
    assert schedule.ending(done) == "candidates"


def test_the_limit_is_kept_and_part_of_it_is_for_the_leaders() -> None:
    """With runs of 20 s in 300 s: some are repeats, and none begins that would not end in time."""
    schedule, done, left, repeats = Schedule(START, LADDERS, AIM, 300.0), dict[Candidate, Trial](), 300.0, 0
    while (there := schedule.next(done, left)) is not None:
        assert left >= 20
        before = done.get(there, Trial(there))
        repeats += bool(before.runs)
        done[there] = Trial(there, (*before.runs, run(100 + 3 * there.batch_size, 20)))
        left -= 20
    assert left < 22
    assert repeats >= 3
    assert len(done) >= 4
