"""The frame of a page that needs nothing beside itself."""

from collections.abc import Sequence
from html import escape
from pathlib import Path


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
