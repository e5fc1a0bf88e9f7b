"""docs/security.md: each threat's row names tests that exist, each advisory one that is in the list."""

import re

import pytest

from env.advisories import load
from ops.settings import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Threats")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in SECTION.splitlines() if line.startswith("| ")
][1:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1][:40])
def test_a_row_is_shown_by_tests_that_exist(row: list[str]) -> None:
    """Who, what, and how it is closed are there, and every test that is named is in its file."""
    who, could, done, _, shown = row
    assert who
    assert could
    assert done
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown)
    assert tests
    assert shown == ", ".join(f"`{file}::{name}`" for file, name in tests)
    for file, name in tests:
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), f"{file}::{name}"


def test_the_table_is_there() -> None:
    """Each kind of attacker has a row."""
    assert {row[0].split(",")[0] for row in ROWS} >= {
        "a client on the network",
        "another user of the machine",
        "whoever reaches management",
        "an archive's author",
        "a model's author",
        "a model hub",
    }


def test_advisories_are_those_of_the_list() -> None:
    """An advisory that the page names is one that env/advisories.toml accepts."""
    named = set(re.findall(r"(?:CVE|GHSA)-[\w-]+", PAGE))
    assert named
    assert named - {one.id for one in load()} == set()
