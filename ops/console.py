"""How the commands speak: lines and a spinner for people, one JSON document for programs."""

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from archives.progress import Progress

# A pipe has no width: tables are then as wide as they need.
WIDTH = None if sys.stdout.isatty() else 240
out = Console(highlight=False, soft_wrap=True, width=WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def to_plain(value: Any) -> Any:
    """What orjson cannot write by itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def print_json(value: Any) -> None:
    """One JSON document on stdout and nothing else."""
    sys.stdout.write(orjson.dumps(value, default=to_plain, option=orjson.OPT_INDENT_2).decode() + "\n")


def table(*columns: str, title: str | None = None) -> Table:
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column)
    return made


class Reporter(Progress):
    """Progress on stderr, so that stdout is the result's: a line a step, a figure now and then in a long one."""

    INTERVAL_S = 2.0

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._last: dict[str, float] = {}

    def say(self, line: str) -> None:
        err.print(f"[dim]{time.monotonic() - self._started:6.1f} s[/dim]  {line}")

    def advance(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        first = step not in self._last
        if total <= 0 or (done < total and now - self._last.get(step, now) < self.INTERVAL_S and not first):
            return
        if first and done < total:  # a step that ends within the interval needs no line
            self._last[step] = now
            return
        if not first or done < total:
            self.say(f"{step}: {done >> 20} of {total >> 20} MB")
        self._last[step] = now
        if done >= total:
            del self._last[step]
