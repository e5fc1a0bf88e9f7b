"""The arrival process is Poisson's, and the same every time."""

import statistics
from itertools import pairwise

import pytest

from ops.bench.arrivals import poisson_arrivals


def test_rate_and_spread() -> None:
    """The mean gap is 1/rate; gaps are exponential: their deviation is their mean, and 1 - 1/e are below it."""
    times = poisson_arrivals(50.0, 400.0, "a")
    gaps = [after - before for before, after in pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert sum(gap < 1 / 50 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.02)


def test_counts_in_a_second_vary_as_poissons_do() -> None:
    """The variance of the arrivals in a second is their mean: bursts come, as from users."""
    times = poisson_arrivals(20.0, 2000.0, "b")
    counts = [0] * 2000
    for time in times:
        counts[int(time)] += 1
    assert statistics.variance(counts) == pytest.approx(20, rel=0.12)


def test_times_rise_within_the_duration_and_follow_the_seed() -> None:
    """Rising, within the time asked for; the same seed gives the same times, another one others."""
    times = poisson_arrivals(100.0, 5.0, "c")
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < 5
    assert times == poisson_arrivals(100.0, 5.0, "c")
    assert times != poisson_arrivals(100.0, 5.0, "d")


def test_no_rate_is_an_error() -> None:
    """A rate of nothing would never end."""
    with pytest.raises(ValueError, match="rate = 0"):
        poisson_arrivals(0.0, 5.0, "e")
