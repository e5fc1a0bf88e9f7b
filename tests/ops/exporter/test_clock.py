"""A wall clock that is set corrupts no duration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.exporter.clock import ClockWatch

POLL_S = 1.0
STEP_AT_S = 50.0


@given(
    size=st.floats(-4000, 4000).filter(lambda size: abs(size) > 0.05),
    start=st.floats(0, 100),
    took=st.floats(0, 120),
)
def test_no_false_duration_is_believed(size: float, start: float, took: float) -> None:
    """Whatever the step, and whenever the request: a duration that is believed is right within 10 ms."""
    watch = ClockWatch()
    end = start + took
    polls = int(end) + 2

    def wall(at: float) -> float:
        return 1e9 + at + (size if at >= STEP_AT_S + 0.3 else 0.0)

    for poll in range(polls + 1):
        watch.reading(poll * POLL_S, wall(poll * POLL_S))
    told = wall(end) - wall(start)

    assert not watch.sound(wall(end), told) or told == pytest.approx(took, abs=0.01)


@pytest.mark.parametrize("size", [-3600.0, -1.0, 1.0, 3600.0])
def test_only_what_a_step_may_have_touched_is_doubted(size: float) -> None:
    """Short requests well before and well after a step are believed; the step is counted once."""
    watch = ClockWatch()
    for poll in range(100):
        watch.reading(poll, 1e9 + poll + (size if poll >= 50 else 0.0))
    believed = [
        watch.sound(1e9 + end + (size if end >= 50 else 0.0), 0.02) for end in (10.0, 45.0, 48.5, 52.5, 60.0, 90.0)
    ]
    assert believed[:2] == [True, True]
    assert believed[-2:] == [True, True]
    assert watch.steps == 1


def test_a_clock_that_ntp_slews_is_no_step() -> None:
    """500 ppm, the most that NTP slews, between readings a minute apart."""
    watch = ClockWatch()
    for poll in range(100):
        watch.reading(60.0 * poll, 1e9 + 60.0 * poll * 1.0005)
    assert watch.steps == 0
    assert watch.sound(1e9 + 5000, 1.0)


def test_what_no_request_takes_is_not_believed() -> None:
    """Negative, or longer than any request: without a step that we saw, too."""
    watch = ClockWatch()
    assert [watch.sound(1e9, seconds) for seconds in (-0.001, 0.0, 899.0, 3600.0)] == [False, True, True, False]
