"""Requests of every kind among good ones."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ops.settings import ROOT
from tests.chaos import site
from tests.chaos.raw_http import Wire, outcome_of, wires
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

REQUESTS = 10_000
PARSER_S = 60


def test_ten_thousand_fuzzed_requests(stack: Stack, record: Callable[[Row], None]) -> None:
    """The workers stay the same processes, and every good request among them gets its own vector."""
    seen: Counter[str] = Counter()
    failed: list[Wire] = []

    @settings(
        max_examples=REQUESTS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(wire=wires)
    def send(wire: Wire) -> None:
        outcome = outcome_of(stack.settings.inference_port, wire)
        seen[outcome] += 1
        if outcome.startswith("5") or (outcome in {"silent", "closed"} and wire.whole):
            failed.append(wire)

    trial = Trial(stack, record, connections=4)
    with trial:
        trial.strike(send)
    after = site.footprint(stack)
    trial.row(
        34,
        f"{REQUESTS:,} fuzzed requests among good ones",
        "same worker pids, every good one answered right",
        met=sum(seen.values()) >= REQUESTS
        and not failed
        and not trial.toll.failed
        and after.workers == trial.before.workers,
        note=", ".join(f"{outcome}: {count}" for outcome, count in sorted(seen.items()))
        + f"; good ones meanwhile: {trial.toll.sent:,}"
        + (f"; {len(failed)} with 5xx or no answer, such as {failed[0]}" if failed else ""),
    )


def test_the_parser_alone(tmp_path: Path, record: Callable[[Row], None]) -> None:
    """Inputs bred for a minute by the lines they reach: each is a request within the limits or refused in words."""
    command = [sys.executable, "-m", "tests.chaos.parser_fuzz", str(tmp_path), str(PARSER_S)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=4 * PARSER_S, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    (runs,) = re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    (kept,) = re.findall(r"DONE .* corp: (\d+)/", done.stderr)
    record(
        Row(
            35,
            f"the request parser alone, fuzzed by coverage (atheris) for {PARSER_S} s",
            "a request within the limits, or a refusal in words",
            met=int(runs) > REQUESTS,
            note=f"{int(runs):,} inputs, {kept} of them kept for the lines they reached",
        )
    )
    assert int(runs) > REQUESTS
