"""What a panel is, apart from how Grafana writes it down."""

from dataclasses import dataclass
from typing import Literal

# Selectors: what the variables at the top of a dashboard leave.
HERE = 'instance=~"$instance"'
MODEL = f'{HERE}, model=~"$model"'


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and the name of its series with labels as {{label}}."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel. `yellow` and `red` are its thresholds, None where it has no limit; `low_is_bad` turns them round.

    `unit` is Grafana's id of a unit; `what` says what is shown, `advice` what to do when it is red or, without a limit,
    how to read it; `runbooks` are alerts; `bottom` and `top` bound the axis.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str
    what: str
    advice: str
    runbooks: tuple[str, ...]
    red: float | None = None
    yellow: float | None = None
    low_is_bad: bool = False
    width: int = 8
    kind: Literal["graph", "stat"] = "graph"
    stacked: bool = False
    bottom: float = 0
    top: float | None = None

    @property
    def steps(self) -> list[tuple[float | None, str]]:
        """(from this value on, colour), in ascending order; None is the beginning."""
        if not self.low_is_bad:
            limits = [(self.yellow, "yellow"), (self.red, "red")]
            return [(None, "green"), *((value, color) for value, color in limits if value is not None)]
        if self.yellow is None or self.red is None:
            return [(None, "red"), (self.red, "green")]
        return [(None, "red"), (self.red + 1e-9, "yellow"), (self.yellow, "green")]

    @property
    def description(self) -> str:
        links = ", ".join(f"[{name}](${{runbooks}}/{name}.md)" for name in self.runbooks)
        when = "How to read it" if self.red is None else "When it is red"
        return f"{self.what}\n\n**{when}:** {self.advice}\n\nRunbook: {links}"


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard: rows in the order in which they are read."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)


def quantiles(metric: str, by: str, window: str = "$__rate_interval", selector: str = MODEL) -> tuple[Query, ...]:
    """p50, p95 and p99 of a histogram, a series for each value of the labels `by`."""
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket{{{selector}}}[{window}])))",
            f"{legend} p{share * 100:.0f}",
        )
        for share in (0.5, 0.95, 0.99)
    )
