"""The table of faults, without any fault."""

from dataclasses import replace
from pathlib import Path

from tests.chaos.table import HEADS, Row, cells, markdown, merged, page, read_rows, to_json, unfinished

ROW = Row(
    3,
    "a | b",
    "soon",
    met=False,
    serving_s=7.26,
    open_then=8,
    open_failed=3,
    orphans=0,
    ports=(8080,),
    memory_before=10,
    memory_after=12,
    ran_on="a machine",
)


def test_a_row_shows_what_was_measured_and_nothing_else() -> None:
    """Figures have their units, a missed bar stands out, and what was not measured is empty."""
    assert cells(ROW) == ["a | b", "soon", "**no**", "7.3 s", "", "3 of 8", "", "", "", "0, 1", "10 → 12", ""]
    assert markdown(HEADS, [cells(ROW)]).splitlines()[2].startswith("| a / b | soon | **no** | 7.3 s |  | 3 of 8 |")


def test_rows_survive_their_file_and_are_replaced_by_place(tmp_path: Path) -> None:
    """A later run replaces the rows of its own faults and keeps the rest, in the table's order."""
    file = tmp_path / "rows.json"
    other = replace(ROW, order=1, fault="another")
    file.write_bytes(to_json([ROW, other]))
    again = replace(ROW, fault="a, said better", met=True)

    assert merged(read_rows(file), [again]) == [other, again]
    assert read_rows(tmp_path / "none.json") == []


def test_the_page_says_where_each_row_comes_from() -> None:
    """One machine is named once; with several, how many rows each has."""
    other = replace(ROW, fault="another", ran_on="another machine")

    assert page([ROW]).endswith("Measured on:\n\n- a machine\n")
    assert page([ROW, other]).endswith("- a machine: 1 of these rows\n- another machine: 1 of these rows\n")


def test_a_test_that_ends_early_takes_its_yes_back() -> None:
    """The rows of that test are missed bars, for whatever they said before; others stay."""
    mine, other, by_hand = (replace(ROW, met=True, test=test) for test in ("a::b", "a::c", ""))
    assert unfinished([mine, other, by_hand], "a::b") == [
        replace(mine, met=False, note="failed before its end"),
        other,
        by_hand,
    ]
