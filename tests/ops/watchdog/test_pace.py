"""Delays between actions."""

from ops.supervisor.watchdog.clock import LookingTime
from ops.supervisor.watchdog.pace import Limits, Pace


def delays(pace: Pace, count: int) -> list[float]:
    """The waits after so many actions, each taken as soon as it is due (to half a second)."""
    now, found = 0.0, list[float]()
    for _ in range(count):
        pace.take(now)
        waited = 0.0
        while not pace.due(now + waited):
            waited += 0.5
        found.append(waited)
        now += waited
    return found


def test_delays_double_up_to_the_cap() -> None:
    """Exponential, capped; with the jitter at its most a quarter shorter."""
    assert delays(Pace(Limits(10, 60, 100), lambda: 0.0), 5) == [10, 20, 40, 60, 60]
    assert delays(Pace(Limits(10, 60, 100), lambda: 1.0), 5) == [7.5, 15, 30, 45, 45]


def test_a_used_up_budget_is_the_slowest_pace() -> None:
    """From the last action of the budget on, the cap."""
    assert delays(Pace(Limits(1, 100, 3), lambda: 0.0), 5) == [1, 2, 100, 100, 100]


def test_after_a_calm_time_it_begins_anew() -> None:
    """Twice the cap without an action: the next delay is the first again, and the budget fills up after an hour."""
    pace = Pace(Limits(10, 60, 5), lambda: 0.0)
    pace.take(0)
    pace.take(10)
    assert (pace.due(29), pace.due(30)) == (False, True)
    pace.take(200)
    assert (pace.due(209), pace.due(210), pace.remaining(210)) == (False, True, 2)
    assert pace.remaining(3600 + 201) == 5


def test_only_looking_makes_old() -> None:
    """An hour in which nobody looked counts as two ticks; ticks that piled up are one look."""
    at = [100.0]
    clock = LookingTime(lambda: at[0])
    moments = []
    for passed in (5.0, 5.0, 3600.0, 0.25, 0.25, 5.0, -3600.0, 5.0):
        at[0] += passed
        moments.append((clock.tick(), clock.now))
    assert moments == [
        (True, 5.0), (True, 10.0), (True, 20.0), (False, 20.0), (False, 20.0), (True, 25.5), (True, 28.0), (True, 33.0),
    ]  # fmt: skip
