"""`embedkit env` as a person meets it: exit status, lines and JSON, on a copy of the checkout."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ops.cli import app
from tests.env.checkout import contents, copy_to, edit, line_of


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("ops.settings.ROOT", tmp_path)
    return copy_to(tmp_path)


def embedkit(*words: str) -> Result:
    return CliRunner().invoke(app, ["env", *words])


def test_check_says_where_and_how_to_mend(checkout: Path) -> None:
    """Exit 0 on a whole checkout; else 1, and a line a place: file, line, found, wanted, command."""
    assert embedkit("check").exit_code == 0
    edit(checkout, "README.md", "| JDK | `11` |", "| JDK | `8` |")
    line = line_of(checkout, "README.md", "| JDK |")
    wrong = embedkit("check")
    assert wrong.exit_code == 1
    assert wrong.stderr.strip() == f"README.md:{line}: JDK is 8, the pin is 11: embedkit env update"
    assert json.loads(embedkit("check", "--json").stdout)["mismatches"][0]["line"] == line


def test_update_mends_what_check_found(checkout: Path) -> None:
    """Without a name it carries the pins as they stand; the same again has nothing to do."""
    before = contents(checkout)
    edit(checkout, "README.md", "| JDK | `11` |", "| JDK | `8` |")
    assert embedkit("update").stdout == "wrote README.md\n"
    assert before == contents(checkout)
    assert embedkit("update").stdout == "nothing to change\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("update", "numpy"), "names no pin"),
        (("update", "numpy==1", "--flavour", "rocm"), "names no lock: use one of cpu, cuda12, cuda13"),
        (("sbom", "--flavour", "rocm"), "--flavour rocm names no lock"),
        (("diff", "a", "b", "c"), "3 files: two can be compared"),
        (("diff", "/nowhere.json"), "/nowhere.json: No such file"),
    ],
)
def test_mistakes_end_in_a_sentence(checkout: Path, words: tuple[str, ...], said: str) -> None:
    """What a user can get wrong is said, with exit status 1."""
    done = embedkit(*words)
    assert (done.exit_code, said in done.stderr) == (1, True), done.stderr


def test_the_bill_goes_to_a_file(checkout: Path, tmp_path: Path) -> None:
    """-o writes the bill of a lock, and nothing else is printed."""
    done = embedkit("sbom", "--flavour", "cuda12", "-o", str(tmp_path / "sbom.json"))
    assert (done.exit_code, done.stdout) == (0, "")
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
