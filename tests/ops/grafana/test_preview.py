"""How the dashboards are drawn without a Grafana: values, colours, names and gaps. The drawing itself: tests/e2e."""

import math

import pytest

from ops.grafana.panels import Panel, Query
from ops.grafana.preview import COLORS, color_at, named, number, with_gaps

LATENCY = Panel("Latency", (Query("up", "{{model}} p99"),), "s", "what", "do", ("TorchServeDown",), red=0.5, yellow=0.1)
FREE = Panel("Free", (), "percentunit", "what", "do", ("DiskFilling",), red=0.1, yellow=0.2, low_is_bad=True)


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (0.0123, "s", "12.3 ms"),
        (1.5, "s", "1.5 s"),
        (0.0123, "percentunit", "1.23 %"),
        (3 << 30, "bytes", "3 GiB"),
        (1500, "short", "1.5 k"),
        (12.5, "reqps", "12.5 /s"),
        (14.4, "suffix:×", "14.4 ×"),
        (0, "bool_yes_no", "no"),
    ],
)
def test_values_are_written_in_their_unit(value: float, unit: str, written: str) -> None:
    """As Grafana would write them."""
    assert number(value, unit) == written


@pytest.mark.parametrize(
    ("panel", "value", "color"),
    [
        (LATENCY, 0.05, "green"),
        (LATENCY, 0.1, "yellow"),
        (LATENCY, 0.7, "red"),
        (FREE, 0.05, "red"),
        (FREE, 0.1, "red"),
        (FREE, 0.15, "yellow"),
        (FREE, 0.5, "green"),
    ],
)
def test_colours_follow_the_thresholds(panel: Panel, value: float, color: str) -> None:
    """Red is reached from the side that is bad."""
    assert color_at(panel, value) == COLORS[color]


def test_names_and_gaps() -> None:
    """Labels replace their names in a legend, and missing samples break a line."""
    assert named("{{model}} p99", {"model": "minilm"}) == "minilm p99"
    times, values = with_gaps([(0, 1.0), (1, 1.0), (5, 2.0)], step=1)
    assert times == [0, 1, 2, 5]
    assert math.isnan(values[2])
