"""Three kinds of charts as inline SVG. Colours, fonts and dark mode are the page's, by class names (report.py)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 34, 46
_BAR, _GAP = 20, 8


@dataclass(frozen=True)
class Series:
    """A line: its name, its points (x, y) by rising x, and its colour's number (class s<number>); or, where they are
    not `joined`, the points alone.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    joined: bool = True


@dataclass(frozen=True)
class BarRow:
    """A bar: what it is of, its length, what is written behind it, its colour's number."""

    label: str
    value: float
    shown: str
    colour: int


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers from at most `low` to at least `high`, some `count` of them."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / count))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from at most `low` to at least `high` (both positive)."""
    all_of = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        for factor in (1, 2, 5)
    ]
    start = max((number for number in all_of if number <= low), default=low)
    end = min((number for number in all_of if number >= high), default=high)
    return [number for number in all_of if start <= number <= end]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    mark: tuple[float, str] | None = None,
    level: tuple[float, str] | None = None,
) -> str:
    """Lines over x from 0, y on a logarithmic scale; `mark` is an x with a name, drawn as a vertical line, `level` a y
    with one, drawn as a horizontal line.
    """
    height = 320
    points = [point for one in series for point in one.points if point[1] > 0]
    if not points:
        return _svg([_text(WIDTH / 2, 40, "nothing was answered", "middle")], 80, title)
    xs = ticks(0.0, max([x for x, _ in points] + ([mark[0]] if mark else [])))
    heights = [y for _, y in points] + ([level[0]] if level else [])
    ys = log_ticks(min(heights), max(heights))
    low, high = math.log(ys[0]), math.log(ys[-1] if len(ys) > 1 else ys[0] * 10)

    def place(x: float, y: float) -> tuple[float, float]:
        along = (x - xs[0]) / ((xs[-1] - xs[0]) or 1.0)
        up = (math.log(max(y, ys[0])) - low) / (high - low)
        return _LEFT + along * (WIDTH - _LEFT - _RIGHT), height - _BOTTOM - up * (height - _TOP - _BOTTOM)

    parts = []
    for y in ys:
        at = place(0, y)[1]
        parts += [_line(_LEFT, at, WIDTH - _RIGHT, at, "grid"), _text(_LEFT - 8, at + 4, _number(y), "end")]
    parts += [_text(place(x, ys[0])[0], height - _BOTTOM + 18, _number(x), "middle") for x in xs]
    parts.append(_text((WIDTH + _LEFT) / 2, height - 8, x_label, "middle"))
    parts.append(_text(8, _TOP - 16, y_label, "start"))
    if mark:
        at = place(mark[0], ys[0])[0]
        parts += [_line(at, _TOP, at, height - _BOTTOM, "mark"), _text(at - 6, _TOP + 10, mark[1], "end")]
    if level:
        at = place(0, level[0])[1]
        parts += [_line(_LEFT, at, WIDTH - _RIGHT, at, "mark"), _text(_LEFT + 6, at - 5, level[1], "start")]
    for one in series:
        parts += _drawn(one, [place(*point) for point in one.points])
    parts += _legend([(one.name, one.colour) for one in series])
    return _svg(parts, height, title)


def bar_chart(rows: Sequence[BarRow], *, title: str, mark: tuple[float, str] | None = None) -> str:
    """Horizontal bars from 0; `mark` is a value with a name, drawn as a vertical line through all of them."""
    left, right = 300, 90
    height = _TOP + len(rows) * (_BAR + _GAP) + 10
    top = max([row.value for row in rows] + ([mark[0]] if mark else []), default=0.0) or 1.0
    scale = (WIDTH - left - right) / top
    parts = []
    for number, row in enumerate(rows):
        y = _TOP + number * (_BAR + _GAP)
        parts += [
            _text(left - 8, y + 15, row.label, "end"),
            _rect(left, y, row.value * scale, row.colour, f"{row.label}: {row.shown}"),
            _text(left + row.value * scale + 6, y + 15, row.shown, "start", "value"),
        ]
    if mark:
        at = left + mark[0] * scale
        parts += [_line(at, _TOP - 8, at, height - 8, "mark"), _text(at, _TOP - 14, mark[1], "middle")]
    return _svg(parts, height, title)


def stacked_chart(rows: Mapping[str, Mapping[str, float]], *, title: str, colours: Mapping[str, int]) -> str:
    """Shares of a whole: row → part → 0 to 1. Parts of at least 4 % carry their percentage."""
    left = 90
    height = _TOP + len(rows) * (_BAR + 2 * _GAP) + 10
    scale = WIDTH - left - _RIGHT
    parts = []
    for number, (label, shares) in enumerate(rows.items()):
        y = _TOP + number * (_BAR + 2 * _GAP)
        parts.append(_text(left - 8, y + 15, label, "end"))
        x = float(left)
        for name, share in shares.items():
            parts.append(_rect(x, y, share * scale, colours[name], f"{label}, {name}: {share:.1%}"))
            if share >= 0.04:
                parts.append(_text(x + share * scale / 2, y + 15, f"{share:.0%}", "middle", "inside"))
            x += share * scale
    names = dict.fromkeys(name for shares in rows.values() for name in shares)
    parts += _legend([(name, colours[name]) for name in names])
    return _svg(parts, height, title)


def _drawn(one: Series, placed: Sequence[tuple[float, float]]) -> Iterable[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    if one.joined:
        yield f'<polyline class="line s{one.colour}" points="{path}"/>'
    for (x, y), (at, value) in zip(placed, one.points, strict=True):
        hint = escape(f"{one.name} at {_number(at)}: {value:.4g}")
        yield f'<circle class="dot s{one.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{hint}</title></circle>'


def _legend(entries: Sequence[tuple[str, int]]) -> Iterable[str]:
    x = float(WIDTH - _RIGHT)
    for name, colour in reversed(entries):
        x -= 7.5 * len(name)
        yield _text(x, 14, name, "start")
        x -= 16
        yield f'<rect class="fill s{colour}" x="{x:.1f}" y="5" width="11" height="11" rx="2"/>'
        x -= 14


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    name = escape(title, quote=True)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{name}">'
    )
    return "\n".join([opening, *parts, "</svg>"])


def _rect(x: float, y: float, width: float, colour: int, hint: str) -> str:
    shape = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{_BAR}"'
    return f'<rect class="fill s{colour}" {shape}><title>{escape(hint)}</title></rect>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:g}"
