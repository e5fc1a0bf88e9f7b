"""The command's flags, files and refusals."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import OpsError
from ops.tune.command import chosen, save
from ops.tune.plan import Plan
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
        ({"profile": "long"}, "--profile long: no such kind of text"),
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
    monkeypatch.setattr("ops.tune.run.resolve", lambda *_, **__: Engine())
    done = CliRunner().invoke(app, ["tune", *words])
    assert done.exit_code == 1
    assert said in done.stderr.replace("\n", " ")
    assert not (tmp_path / "var" / "tuning").exists()


class Engine:
    """What choosing a backend came to; it would take seconds."""

    backend, dtype = "torch", "float32"


def test_results_are_written_beside_each_other(tmp_path: Path) -> None:
    """A folder a run, named by its start; the JSON holds every candidate, the page is of it."""
    page = save(result(TRIALS), tmp_path)
    assert page == tmp_path / "20261125T140000Z" / "report.html"
    content = orjson.loads(page.with_name("result.json").read_bytes())
    assert [row["candidate"]["batch_size"] for row in content["rows"] if row["chosen"]] == [16]
    assert content["changes"] == {"batch_size": 16}
    assert result(TRIALS).headline in page.read_text(encoding="utf-8")
