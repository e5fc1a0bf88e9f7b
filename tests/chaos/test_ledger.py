"""Counting what a fault costs."""

import pytest

from tests.chaos.ledger import Entry, Toll, growth, toll


def test_what_was_open_is_told_from_what_came_later() -> None:
    """Requests open at the fault, refused later ones and lost later ones are counted apart; earlier ones not at all."""
    entries = [
        Entry(0.0, 1.0, "500"),
        Entry(1.0, 3.0, "200"),
        Entry(1.5, 2.5, "lost"),
        Entry(2.1, 2.2, "refused"),
        Entry(2.2, 2.3, "503"),
        Entry(2.4, 4.0, "500"),
        Entry(4.0, 5.0, "200"),
    ]
    expected = Toll(sent=6, open_then=2, open_failed=1, refused=2, lost=1, trouble_s=2.0)

    assert expected == toll(entries, at=2.0)


def test_no_failure_is_no_trouble() -> None:
    """Where everything is answered, nothing was lost and no time was."""
    assert toll([Entry(0.0, 1.0, "200")], at=0.5) == Toll(1, 1, 0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(0, 100), (10, 100), (20, 100)], 0.0),
        ([(0, 100), (10, 110), (20, 120)], 0.2),
        ([(0, 100)], 0.0),
        ([(5, 200), (15, 150), (25, 100)], -0.5),
    ],
)
def test_growth_is_the_share_along_the_fitted_line(samples: list[tuple[float, float]], expected: float) -> None:
    """A steady rise from 100 to 120 is 20 %, whatever its zero; one sample says nothing."""
    assert growth(samples) == pytest.approx(expected)
