"""Candidates, trials and a whole result with figures that are easy to find again."""

from dataclasses import replace

from ops.bench.machine import Machine
from ops.tune.frontier import Run, Trial, choose, nearest
from ops.tune.plan import Plan
from ops.tune.result import Result, headline, rows
from ops.tune.space import Candidate
from ops.tune.write import changes

START = Candidate(workers=2, threads=1, batch_size=32, max_batch_delay_ms=1, token_budget=16384)
PLAN = Plan.within(300, profile="mixed", seed=1, load=0.7, p99_s=0.05)


def run(texts_per_s: float, p99_ms: float, others: float = 0.0) -> Run:
    return Run(
        texts_per_s=texts_per_s,
        rate=0.7 * texts_per_s,
        p50_s=p99_ms / 4000,
        p99_s=p99_ms / 1000,
        sent=800,
        checked=48,
        min_cosine=0.999972,
        others=others,
        seconds=20.0,
    )


def trial(texts_per_s: float, p99_ms: float, **values: int) -> Trial:
    """A candidate that differs from the start in these values, with one run."""
    return Trial(replace(START, **values), (run(texts_per_s, p99_ms),))


TRIALS = [
    trial(251, 47.5),
    trial(263, 48.5, batch_size=16),
    trial(287, 61.5, batch_size=64),
    trial(240, 49.5, max_batch_delay_ms=5),
    Trial(replace(START, workers=1, threads=2), reason="closed loop: 3 of 600 texts unanswered: 3 × 500"),
]


def result(trials: list[Trial], p99_s: float = 0.05) -> Result:
    """What `tune` would make of these trials."""
    plan = replace(PLAN, p99_s=p99_s)
    chosen, near = choose(trials, p99_s), nearest(trials)
    return Result(
        headline=headline("minilm", trials, START, plan, ended="finished", others=0.0),
        model="minilm",
        ended="finished",
        plan=plan,
        current=START,
        chosen=chosen.candidate if chosen else None,
        nearest=near.candidate if near and not chosen else None,
        rows=rows(trials, START, p99_s),
        changes=changes(START, chosen.candidate) if chosen else {},
        written=False,
        requests=4321,
        others=0.0,
        engine="openvino bfloat16",
        started_at="2026-11-25T14:00:00+00:00",
        seconds=298.5,
        machine=Machine("a processor", 2, 25 << 30, (), "Linux", "3.11.7", {"torch": "2.13.0"}, "abc123+", 0.01, 0.2),
        settings={"inference_port": 8080},
    )
