"""The command's flags and files."""

from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from ops.bench.command import bench, chosen, write
from ops.bench.options import Options
from ops.errors import OpsError
from tests.ops.bench.sample import RESULT


def test_flags_make_the_plan() -> None:
    """Flags override what --quick or the full plan says; profiles come in their own order, each once."""
    assert chosen(quick=True, seed=4, profiles=[], repeats=None, peers=False) == Options.short(4)
    found = chosen(quick=False, seed=1, profiles=["mixed", "short", "mixed"], repeats=5, peers=True)
    assert (found.profiles, found.repeats, found.quick) == (("short", "mixed"), 5, False)
    assert found.peers == ("infinity", "mosec", "litserve")
    with pytest.raises(OpsError, match="--profile essays: no such kind of text; known: short, passages, mixed"):
        chosen(quick=False, seed=1, profiles=["essays"], repeats=None, peers=False)


def test_results_are_written_beside_each_other(tmp_path: Path) -> None:
    """A folder a run, named by its start; the JSON holds the result, the page is of it."""
    page = write(RESULT, tmp_path / "bench")
    assert page == tmp_path / "bench" / "20261122T180000Z" / "report.html"
    content = orjson.loads(page.with_name("result.json").read_bytes())
    assert content["profiles"][0]["bound"]["texts_per_s"] == 279.0
    assert content["options"]["seed"] == 9
    assert RESULT.headline in page.read_text(encoding="utf-8")


def test_without_a_service_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing served: a sentence and exit status 1, no traceback."""
    monkeypatch.setenv("EMBEDKIT_VAR", str(tmp_path))
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(bench)
    done = CliRunner().invoke(app, ["--quick"])
    assert done.exit_code == 1
    assert "make up" in done.stderr
