"""The loop over candidates, with measurements that are made up; the real ones are in tests/e2e."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from archives.progress import SILENT
from env.hardware import Hardware
from ops.tune.clock import Schedule
from ops.tune.frontier import Run, Trial
from ops.tune.private import CandidateError
from ops.tune.result import Ended
from ops.tune.run import search
from ops.tune.space import Candidate, dimensions
from ops.tune.trial import OutOfTime
from tests.ops.tune.sample import PLAN, START, run
from tests.ops.tune.test_space import spec


def searched(
    measure: Callable[[Candidate], Run], unfit: Callable[[Candidate], list[str]] = lambda _: []
) -> tuple[dict[Candidate, Trial], Ended]:
    schedule = Schedule(START, dimensions(spec(), Hardware(2, 16 << 30), PLAN.p99_s), PLAN.p99_s, PLAN.limit_s)
    return search(schedule, measure, unfit, plan=PLAN, deadline=time.monotonic() + 300, progress=SILENT)


def test_it_ends_when_nothing_gains() -> None:
    """All alike: each neighbour is tried, the leaders are measured again, and that is all."""
    done, ended = searched(lambda _: replace(run(100, 20), seconds=0.0))
    assert ended == "finished"
    assert max(len(one.runs) for one in done.values()) == 3


def test_a_wrong_candidate_is_out_with_its_reason() -> None:
    """It does not stop the search, and cannot be chosen, nor when a later run of it goes wrong."""

    def measure(one: Candidate) -> Run:
        if one.batch_size == 64:
            raise CandidateError("1 of 48 compared vectors are wrong")
        return replace(run(100, 20), seconds=0.0)

    done, _ = searched(measure)
    wrong = done[replace(START, batch_size=64)]
    assert (wrong.reason, wrong.measured) == ("1 of 48 compared vectors are wrong", False)
    assert done[START].measured


def test_what_does_not_fit_is_skipped_unmeasured() -> None:
    """Too little memory for two workers: they are never started, which is said, and one worker is measured."""
    measured = []

    def measure(one: Candidate) -> Run:
        measured.append(one)
        return replace(run(100, 20), seconds=0.0)

    done, _ = searched(measure, lambda one: ["2 workers need 1200 MB, 900 MB are free"] if one.workers > 1 else [])
    assert done[START].reason == "skipped: 2 workers need 1200 MB, 900 MB are free"
    assert {one.workers for one in measured} == {1}


@pytest.mark.parametrize(("error", "ended"), [(OutOfTime(), "time"), (KeyboardInterrupt(), "interrupted")])
def test_what_there_is_is_kept(error: BaseException, ended: str) -> None:
    """The limit, or Ctrl-C, in the third trial: the first two are reported."""
    calls = []

    def measure(one: Candidate) -> Run:
        calls.append(one)
        if len(calls) == 3:
            raise error
        return run(100, 20)

    done, found = searched(measure)
    assert (list(done), found) == (calls[:2], ended)


def test_interrupted_before_anything_was_found() -> None:
    """There is nothing to report: the interruption goes through."""

    def measure(_: Candidate) -> Run:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(measure)
