"""What TorchServe 0.12.0 says on :8082, captured from it, and what is given on."""

from pathlib import Path

import pytest

from ops.exporter.families import FAMILIES, Families
from ops.exporter.torchserve_table import GIVEN, TABLE, map_metrics, unknown
from tests.ops.exporter.reading import text

# 10 requests without a version and one with; a 400 and a 404; a 503 while there were no workers.
CAPTURED = Path(__file__).parent / "captured"


def test_the_captured_answer_becomes_this() -> None:
    """The golden file, character by character: names, labels, units, types, nothing twice."""
    families = Families()
    map_metrics((CAPTURED / "8082.txt").read_text(), families)
    assert text(families) == (CAPTURED / "8082.metrics").read_text()


def test_every_family_has_its_row() -> None:
    """What TorchServe gives is given on or left out with a reason, and no row is of a family that it does not have."""
    captured = (CAPTURED / "8082.txt").read_text()
    assert list(unknown(captured)) == []
    assert [row.theirs for row in TABLE if row.theirs not in captured] == []


def test_rows_fit_the_table_of_metrics() -> None:
    """Each row gives exactly the labels that its family has, and no two rows the same series."""
    for row in GIVEN.values():
        assert {*row.labels.values(), *row.fixed} == set(FAMILIES[row.ours].labels)
    targets = [(row.ours, tuple(row.fixed.items())) for row in GIVEN.values()]
    assert len(targets) == len(set(targets))


@pytest.mark.parametrize("rubbish", ["<html>", "Requests2XX one", 'ts_x{a="b" 1'])
def test_rubbish_is_an_error_and_not_a_metric(rubbish: str) -> None:
    """What is no metric is told as such."""
    with pytest.raises((ValueError, KeyError, IndexError)):
        map_metrics(rubbish + "\n", Families())
