"""Draw the dashboards from a Prometheus, for whoever has no Grafana: what it would show, as PNG.

    python -m ops.grafana.preview --prometheus http://127.0.0.1:9090 --minutes 60 --out var/preview

Needs matplotlib, of the development tools.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import requests

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ops import loopback
from ops.errors import OpsError
from ops.grafana.boards import BOARDS
from ops.grafana.panels import Board, Panel

COLUMNS = 24
WIDTH_INCHES, LANE_INCHES, HEAD_INCHES = 15.0, 2.35, 0.4
COLORS = {"green": "#37872d", "yellow": "#e0b400", "red": "#c4162a"}
SERIES = ("#1f60c4", "#e0752d", "#7c2ea3", "#37872d", "#c4162a", "#0a8a8a", "#b877d9", "#806eb7", "#8f6b00", "#555555")

# One series of a panel: its name and (Unix time, value) in order.
Line = tuple[str, list[tuple[float, float]]]


def number(value: float, unit: str) -> str:
    """A value as Grafana writes it in this unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
    if unit == "bool_yes_no":
        return "yes" if value else "no"
    if unit == "celsius":
        return f"{value:.0f} °C"
    scales: Sequence[tuple[float, str]] = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    if unit == "bytes":
        scales = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
    suffix = {"reqps": "/s", "watt": "W", "hertz": "Hz"}.get(unit, unit.removeprefix("suffix:") if ":" in unit else "")
    for scale, letter in scales:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {letter}{suffix}"
    return f"{value:.4g}{' ' if suffix else ''}{suffix.strip()}"


def color_at(panel: Panel, value: float) -> str:
    """The colour that the panel's thresholds give a value."""
    reached = [color for limit, color in panel.steps if limit is None or value >= limit]
    return COLORS[reached[-1]]


def named(legend: str, labels: Mapping[str, str]) -> str:
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend


class Range:
    """Asks a Prometheus for a stretch of time, in Unix seconds."""

    def __init__(self, url: str, start: float, end: float, rate_interval: str = "1m") -> None:
        self._url, self.start, self.end = url, start, end
        self._variables = {"$__rate_interval": rate_interval, "$instance": ".*", "$model": ".*"}

    def lines(self, panel: Panel) -> list[Line]:
        """The panel's series.

        Raises:
            OpsError: Prometheus does not answer, or finds fault with the expression.
        """
        found = []
        for query in panel.queries:
            expr = query.expr
            for name, value in self._variables.items():
                expr = expr.replace(name, value)
            asked = {"query": expr, "start": self.start, "end": self.end, "step": max(1, (self.end - self.start) / 300)}
            try:
                given = loopback.request("POST", f"{self._url}/api/v1/query_range", timeout=30, data=asked)
                answer: dict[str, Any] = given.json()
            except (requests.RequestException, ValueError) as error:
                raise OpsError(f"{self._url} is no Prometheus that answers: {type(error).__name__}") from error
            if answer["status"] != "success":
                raise OpsError(f"{panel.title}: {expr}: {answer['error']}")
            for one in answer["data"]["result"]:
                points = [(float(at), float(value)) for at, value in one["values"]]
                found.append((named(query.legend, one["metric"]), points))
        return found


def with_gaps(points: list[tuple[float, float]], step: float) -> tuple[list[float], list[float]]:
    """Times and values, with a break where samples are missing."""
    times: list[float] = []
    values: list[float] = []
    for at, value in points:
        if times and at - times[-1] > 1.5 * step:
            times.append(times[-1] + step)
            values.append(math.nan)
        times.append(at)
        values.append(value)
    return times, values


def on_grid(points: list[tuple[float, float]], grid: list[float]) -> list[float]:
    """A value for each time of the grid, 0 where there is none."""
    values = {round(at): value for at, value in points if not math.isnan(value)}
    return [values.get(round(at), 0.0) for at in grid]


def _graph(axes: Axes, panel: Panel, lines: list[Line], asked: Range) -> None:
    step = max(1, (asked.end - asked.start) / 300)
    shown = [line for line in lines if not all(math.isnan(value) for _, value in line[1])]
    top = 0.0
    if panel.stacked:
        grid = [asked.start + index * step for index in range(int((asked.end - asked.start) / step) + 1)]
        heights = [on_grid(points, grid) for _, points in shown]
        if shown:
            axes.stackplot(grid, *heights, labels=[name for name, _ in shown], colors=SERIES, alpha=0.6)
            top = max(map(sum, zip(*heights, strict=True)))
    else:
        for index, (name, points) in enumerate(shown):
            times, values = with_gaps(points, step)
            axes.plot(times, values, label=name, color=SERIES[index % len(SERIES)], linewidth=1.1)
            top = max([top, *(value for value in values if not math.isnan(value))])
    highest = panel.top if panel.top is not None else top * 1.15 or 1.0
    for limit, color in panel.steps:
        if limit is not None and limit <= max(highest, 2 * top):
            axes.axhline(limit, color=COLORS[color], linestyle="--", linewidth=0.8)
            highest = highest if panel.top is not None else max(highest, limit * 1.1)
    axes.set_ylim(panel.bottom, highest + 0.03 * (highest - panel.bottom))
    axes.set_xlim(asked.start, asked.end)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, panel.unit)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: time.strftime("%H:%M:%S", time.gmtime(at))))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=True, linewidth=0.3)
    axes.tick_params(labelsize=6.5)
    if shown:
        axes.legend(fontsize=5.5, loc="upper left", framealpha=0.6, ncols=2 if len(shown) > 4 else 1)
    else:
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", va="center", color="#888888")


def _stat(axes: Axes, panel: Panel, lines: list[Line], asked: Range) -> None:
    axes.set_axis_off()
    current = [(name, points[-1][1]) for name, points in lines if points and asked.end - points[-1][0] < 5]
    if not current:
        axes.text(
            0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", fontsize=16, color=COLORS["green"]
        )
    for index, (name, value) in enumerate(current[:6]):
        height = 1 - (index + 0.5) / min(len(current), 6)
        text, color = f"{name}: {number(value, panel.unit)}", color_at(panel, value)
        axes.text(0.5, height, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=color)


_DRAW: dict[str, Callable[[Axes, Panel, list[Line], Range], None]] = {"graph": _graph, "stat": _stat}


def draw(board: Board, asked: Range, file: Path) -> None:
    """Draw one dashboard.

    Raises:
        OpsError: see Range.lines.
    """
    lanes: list[list[Panel]] = []
    headings: dict[int, str] = {}
    for row in board.rows:
        headings[len(lanes)] = row.title
        width = COLUMNS
        for panel in row.panels:
            if width + panel.width > COLUMNS:
                lanes.append([])
                width = 0
            lanes[-1].append(panel)
            width += panel.width
    height = LANE_INCHES * len(lanes) + HEAD_INCHES
    figure = plt.figure(figsize=(WIDTH_INCHES, height), dpi=80)
    figure.text(0.5, 1 - 0.5 * HEAD_INCHES / height, board.title, ha="center", va="center", fontweight="bold")
    for index, lane in enumerate(lanes):
        left = 0
        for panel in lane:
            # room for the labels of the axes: to the left, below, and above for the title
            x, y = left * WIDTH_INCHES / COLUMNS + 0.6, height - HEAD_INCHES - LANE_INCHES * (index + 1) + 0.3
            w, h = panel.width * WIDTH_INCHES / COLUMNS - 0.75, LANE_INCHES - 0.6
            axes = figure.add_axes((x / WIDTH_INCHES, y / height, w / WIDTH_INCHES, h / height))
            title = f"{headings[index]}  ·  {panel.title}" if left == 0 and index in headings else panel.title
            axes.set_title(title, fontsize=8, loc="left")
            _DRAW[panel.kind](axes, panel, asked.lines(panel), asked)
            left += panel.width
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Software": None})
    plt.close(figure)
    _shrink(file)


def _shrink(file: Path) -> None:
    """Few colours are in it: a palette makes it a third of the size."""
    from PIL import Image

    with Image.open(file) as image:
        image.convert("RGB").quantize(128).save(file, optimize=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its URL")
    parser.add_argument("--minutes", type=float, default=60, help="how far back")
    parser.add_argument("--out", type=Path, default=Path("var/preview"), help="folder for the pictures")
    wanted = parser.parse_args()
    now = time.time()
    try:
        for board in BOARDS:
            file = wanted.out / f"{board.uid}.png"
            draw(board, Range(wanted.prometheus, now - 60 * wanted.minutes, now), file)
            print(f"wrote {file}")
    except OpsError as error:
        print(f"preview: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
