"""Numbers and tables as HTML."""

from collections.abc import Sequence
from html import escape

# A cell is its text, or (text, class).
Cell = str | tuple[str, str]


def number(value: float, digits: int = 0) -> str:
    """With thousands separated; small ones keep three significant digits."""
    if digits == 0 and 0 < abs(value) < 10:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}"


def ratio(value: float) -> str:
    return f"{value:.2f}"


def ms(seconds_: float) -> str:
    """Seconds, shown in milliseconds."""
    return f"{seconds_ * 1000:.1f} ms" if seconds_ < 0.1 else f"{seconds_ * 1000:,.0f} ms"


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table that scrolls by itself where it is too wide."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads) if any(heads) else ""
    lines = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{lines}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    text, kind = cell if isinstance(cell, tuple) else (cell, "")
    named = f' class="{kind}"' if kind else ""
    return f"<td{named}>{escape(text)}</td>"
