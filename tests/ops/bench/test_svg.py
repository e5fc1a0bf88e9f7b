"""Charts are well-formed XML, and what they show is where it should be."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.svg import BarRow, Series, bar_chart, line_chart, log_ticks, stacked_chart, ticks

SVG = "{http://www.w3.org/2000/svg}"


def elements(chart: str, name: str) -> list[ET.Element]:
    return list(ET.fromstring(chart).iter(f"{SVG}{name}"))


@given(st.floats(0, 1e7), st.floats(1e-3, 1e7))
def test_ticks_cover_the_range(low: float, span: float) -> None:
    """From at most the smallest to at least the largest, few and evenly spaced."""
    found = ticks(low, low + span)
    slack = 1e-6 * (low + span)
    assert found[0] <= low + slack
    assert found[-1] >= low + span - slack
    assert 2 <= len(found) <= 9


@given(st.floats(1e-4, 1e6), st.floats(1, 1e6))
def test_log_ticks_cover_the_range(low: float, factor: float) -> None:
    """1, 2 and 5 times powers of ten around the values."""
    found = log_ticks(low, low * factor)
    assert found[0] <= low * (1 + 1e-9)
    assert found[-1] >= low * factor * (1 - 1e-9)
    assert found == sorted(found)


def test_a_line_rises_where_its_values_do() -> None:
    """Larger x is further right, larger y further up; every point has a hint with its value."""
    chart = line_chart(
        [Series("p50", [(10, 5), (20, 50), (30, 500)], 1)], title="t", x_label="x", y_label="y", mark=(25, "ceiling")
    )
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in elements(chart, "circle")]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
    # A logarithmic scale: the same factor is the same height.
    assert dots[0][1] - dots[1][1] == pytest.approx(dots[1][1] - dots[2][1], abs=0.2)
    assert [hint.text for hint in elements(chart, "title")] == ["p50 at 10: 5", "p50 at 20: 50", "p50 at 30: 500"]


def test_bars_are_as_long_as_their_values() -> None:
    """Twice the value, twice the length; labels may hold any characters."""
    chart = bar_chart([BarRow('<a> & "b"', 10, "10 /s", 1), BarRow("北京", 20, "20 /s", 2)], title='<t> & "u"')
    first, second = (float(bar.attrib["width"]) for bar in elements(chart, "rect"))
    assert second == pytest.approx(2 * first, abs=0.2)
    assert [text.text for text in elements(chart, "text")] == ['<a> & "b"', "10 /s", "北京", "20 /s"]
    assert ET.fromstring(chart).attrib["aria-label"] == '<t> & "u"'


def test_stacked_parts_fill_the_whole() -> None:
    """Shares that make 1 fill the row, each as wide as its share."""
    chart = stacked_chart({"m": {"a": 0.25, "b": 0.75}}, title="t", colours={"a": 1, "b": 2})
    widths = [float(bar.attrib["width"]) for bar in elements(chart, "rect")][:2]
    assert widths[0] / sum(widths) == pytest.approx(0.25, abs=0.001)


def test_charts_without_values_say_so() -> None:
    """Nothing answered makes a chart with words, not a division by zero."""
    assert "nothing was answered" in line_chart([], title="t", x_label="x", y_label="y")
    ET.fromstring(line_chart([Series("p50", [(0, 3)], 1)], title="t", x_label="x", y_label="y"))
    ET.fromstring(bar_chart([BarRow("a", 0.0, "0", 1)], title="t"))
    ET.fromstring(stacked_chart({}, title="t", colours={}))
