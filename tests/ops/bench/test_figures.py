"""Percentiles and counts."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.client import Shot
from ops.bench.figures import Percentiles, figures, percentile, percentiles
from ops.bench.load import Load


def shot(index: int, seconds: float, outcome: str, *, late: float = 0.0, body: bytes = b"") -> Shot:
    return Shot(index, b"", float(index), index + late, index + seconds, outcome, body)


def test_percentiles_are_nearest_rank() -> None:
    """Of 1 to 100, p50 is 50, p95 is 95 and p99 is 99; of ten values, p95 and p99 are the largest."""
    assert percentiles([float(number) for number in range(100, 0, -1)]) == Percentiles(50, 95, 99, 100)
    assert percentiles([float(number) for number in range(1, 11)]) == Percentiles(5, 10, 10, 10)
    assert percentiles([]) is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_covers_its_share(values: list[float], share: float) -> None:
    """At least that share of the values is not above it, and fewer are not above the next smaller one."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= math.floor(share * len(values))
    assert sum(value < found for value in values) <= math.ceil(share * len(values))


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_beyond_all_is_an_error(share: float) -> None:
    """Percent instead of a share, and no number at all, are refused."""
    with pytest.raises(ValueError, match="quantile"):
        percentile([1.0], share)


def test_outcomes_are_counted_by_what_they_are() -> None:
    """Goodput and latency are of vectors alone; refusals are no errors, everything else is one."""
    shots = [shot(number, 0.1, "200", late=0.002) for number in range(90)]
    shots += [shot(90, 0.3, "503", body=b"full"), shot(91, 0.7, "503", body=b"full")]
    shots += [
        shot(92, 60.0, "timeout"),
        shot(93, 0.2, "lost"),
        shot(94, 0.2, "refused"),
        shot(95, 0.2, "500", body=b"x"),
    ]
    found = figures(Load(tuple(shots), 100.0, 25.0, {}))
    assert found.outcomes == {"200": 90, "500": 1, "503": 2, "lost": 1, "refused": 1, "timeout": 1}
    assert (found.sent, found.answered, found.refusals, found.errors) == (96, 90, 2, 4)
    assert found.texts_per_s == pytest.approx(0.9)
    assert found.latency is not None
    assert found.latency.longest == pytest.approx(0.1)
    assert found.slowest_refusal_s == pytest.approx(0.7)
    assert found.late_p99_s == pytest.approx(0.002)
    assert found.client_cpu == pytest.approx(0.25)
    assert found.examples == {"503": "full", "500": "x"}


def test_a_closed_loop_counts_while_all_connections_are_busy() -> None:
    """Two connections, an answer each every second, one slow text at the end: the wait for it is no throughput."""
    shots = [replace(shot(number, 1.0, "200"), fired=number // 2, done=number // 2 + 1.0) for number in range(20)]
    shots.append(replace(shot(20, 1.0, "200"), fired=10.0, done=60.0))
    found = figures(Load(tuple(shots), 60.0, 0.0, {}, connections=2))
    assert found.texts_per_s == pytest.approx(2.0)
    assert figures(Load(tuple(shots), 60.0, 0.0, {})).texts_per_s == pytest.approx(21 / 60)
    assert figures(Load(tuple(shots[:6]), 3.0, 0.0, {}, connections=2)).texts_per_s == pytest.approx(2.0)


def test_nothing_answered() -> None:
    """No latency is made up where nothing came back."""
    found = figures(Load((shot(0, 0.1, "refused"),), 0.1, 0.0, {}))
    assert found.latency is None
    assert (found.texts_per_s, found.errors) == (0.0, 1)
