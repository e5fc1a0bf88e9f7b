"""The generated reference pages."""

import pytest

from ops.reference import PAGES
from ops.settings import ROOT


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    """docs/ says what the code says; `make docs` mends it."""
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name]()
