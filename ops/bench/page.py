"""The frame of a page that needs nothing beside itself, and its place beside its figures."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import orjson

from archives.store import write_whole
from ops.console import to_plain


def page(title: str, body: Sequence[str]) -> str:
    """Parts of a body (empty ones are left out) → the whole document, its style in it."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def write_report(result: object, started_at: str, folder: Path, render: Callable[[Mapping[str, Any]], str]) -> Path:
    """result.json and report.html in a folder of their own below this one, named for the start (ISO 8601); returns the
    page's path.
    """
    content = orjson.dumps(result, default=to_plain, option=orjson.OPT_INDENT_2)
    place = folder / f"{datetime.datetime.fromisoformat(started_at):%Y%m%dT%H%M%SZ}"
    write_whole(place / "result.json", content)
    write_whole(place / "report.html", render(orjson.loads(content)).encode())
    return place / "report.html"
