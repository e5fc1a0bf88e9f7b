"""The command's flags, files and refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from archives.progress import Progress
from archives.resolve import Resolution
from ops.cli import app
from ops.errors import OpsError
from ops.settings import Settings
from ops.tune.command import chosen, save
from ops.tune.plan import Plan
from ops.tune.result import Result
from tests.ops.tune.sample import TRIALS, result


def planned(p99: str = "50ms", limit: str = "5m", profile: str = "mixed", load: float = 0.7) -> Plan:
    return chosen(p99=p99, limit=limit, profile=profile, load=load, seed=3)


def test_flags_make_the_plan() -> None:
    """Durations in any unit; a longer limit makes longer phases."""
    plan = planned(p99="0.05s", limit="300 s", profile="short")
    assert (plan.p99_s, plan.limit_s, plan.profile, plan.seed) == (0.05, 300.0, "short", 3)
    assert planned(limit="30m").open_s > planned(limit="5m").open_s > planned(limit="1m").open_s


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"p99": "50"}, "--p99 50: a number above 0 with its unit"),
        ({"p99": "-50ms"}, "--p99 -50ms: a number above 0 with its unit"),
        ({"p99": "0ms"}, "--p99 0ms: it has to be above 0"),
        ({"p99": "50 days"}, "(ms, s, m, min, h)"),
        ({"limit": "soon"}, "--limit soon"),
        ({"profile": "poems"}, "--profile poems: no such kind of text"),
        ({"load": 1.0}, "--load 1: a share from 0.1 to 0.95"),
    ],
)
def test_bad_flags_are_told(flags: dict[str, str], said: str) -> None:
    """The flag, its value and what is allowed."""
    with pytest.raises(OpsError) as told:
        planned(**flags)  # type: ignore[arg-type]
    assert said in str(told.value)


def test_a_limit_that_holds_no_trial_says_how_long_one_takes() -> None:
    """A larger model needs longer."""
    with pytest.raises(OpsError, match=r"--limit 10s: one trial of this model takes about \d\d s"):
        planned(limit="10s").check(90 << 20, 2)
    planned(limit="60s").check(90 << 20, 2)
    with pytest.raises(OpsError, match=r"takes about \d\d s"):
        planned(limit="30s").check(1300 << 20, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["minilmm", "--p99", "50ms"], "did you mean minilm"),
        (["minilm", "--p99", "50"], "such as 50ms"),
        (["minilm", "--p99", "50ms", "--limit", "3s"], "give it"),
    ],
)
def test_refusals_are_sentences(words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1, no traceback, and no server is started for it."""
    monkeypatch.setenv("EMBEDKIT_VAR", str(tmp_path / "var"))
    chosen = Resolution("torch", "float32", "cpu", "")  # choosing would take seconds
    monkeypatch.setattr("ops.tune.run.resolve", lambda *_, **__: chosen)
    done = CliRunner().invoke(app, ["tune", *words])
    assert done.exit_code == 1
    assert said in done.stderr.replace("\n", " ")
    assert not (tmp_path / "var" / "tuning").exists()


def test_results_are_written_beside_each_other(tmp_path: Path) -> None:
    """A folder a run, named by its start; the JSON holds every candidate, the page is of it."""
    page = save(result(TRIALS), tmp_path)
    assert page == tmp_path / "20261125T140000Z" / "report.html"
    content = orjson.loads(page.with_name("result.json").read_bytes())
    assert [row["candidate"]["batch_size"] for row in content["rows"] if row["chosen"]] == [16]
    assert content["changes"] == {"batch_size": 16}
    assert result(TRIALS).headline in page.read_text(encoding="utf-8")


def commanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: Result, *words: str) -> tuple[Any, list[Plan]]:
    """The command, the search itself left out; what it ended with, and the plan that it made."""
    plans = []

    def search(settings: Settings, model: str, plan: Plan, progress: Progress) -> Result:
        plans.append(plan)
        return found

    (tmp_path / "models.toml").write_text('[minilm]\nsource = { folder = "x" }\n')
    monkeypatch.setenv("EMBEDKIT_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("EMBEDKIT_MODELS_FILE", str(tmp_path / "models.toml"))
    monkeypatch.setattr("ops.tune.run.tune", search)
    return CliRunner().invoke(app, ["tune", "minilm", "--p99", "50ms", *words]), plans


def test_the_table_and_the_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Flags reach the plan; the table marks choice and frontier; without --write the file stays."""
    done, plans = commanded(monkeypatch, tmp_path, result(TRIALS), "--candidates", "2", "--runs", "1")
    assert (plans[0].candidates, plans[0].runs) == (2, 1)
    assert done.exit_code == 0
    assert "chosen, frontier" in done.stdout
    assert "--write would set batch_size = 16" in done.stdout
    assert "batch_size" not in (tmp_path / "models.toml").read_text()


def test_write_and_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--write changes the file and the JSON says so; nothing else is on stdout."""
    done, _ = commanded(monkeypatch, tmp_path, result(TRIALS), "--write", "--json")
    assert orjson.loads(done.stdout)["written"]
    assert (tmp_path / "models.toml").read_text() == '[minilm]\nsource = { folder = "x" }\nbatch_size = 16\n'


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        (result(TRIALS, p99_s=0.01), 1, "try a longer --p99"),
        (replace(result(TRIALS), ended="interrupted"), 130, "chosen"),
    ],
)
def test_no_success_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: Result, status: int, said: str
) -> None:
    """Nothing meets the aim, or an interruption: what was found is shown, the status is no success, the file stays."""
    done, _ = commanded(monkeypatch, tmp_path, found, "--write")
    assert done.exit_code == status
    assert said in done.stdout
    assert "batch_size" not in (tmp_path / "models.toml").read_text()
