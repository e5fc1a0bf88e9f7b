"""models.toml after --write."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.settings import ROOT
from ops.tune.write import changes, rewrite, write
from tests.ops.tune.sample import START

CATALOGUE = (ROOT / "archives" / "models.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", ["minilm", "bge_large_zh", "tao_8k"])
def test_only_those_keys_change(model: str) -> None:
    """Every other line of the real file stays, in its order, and the new ones stand in the model's own table."""
    made = rewrite(CATALOGUE, model, {"workers": 3, "batch_size": 64})
    wanted = tomllib.loads(CATALOGUE)
    wanted[model] |= {"workers": 3, "batch_size": 64}
    assert tomllib.loads(made) == wanted
    new = [line for line in made.splitlines() if line not in CATALOGUE.splitlines()]
    assert new == ["workers = 3", "batch_size = 64"] or new == ["batch_size = 64", "workers = 3"]
    kept = [line for line in CATALOGUE.splitlines() if line in made.splitlines()]
    gone = [line for line in CATALOGUE.splitlines() if line not in made.splitlines()]
    assert all(line.startswith("batch_size = ") for line in gone)
    assert [line for line in made.splitlines() if line not in new] == kept


def test_a_comment_above_the_next_model_stays_above_it() -> None:
    """New keys follow the table's last key, not what stands before the next header; comments of a line stay on it."""
    text = '[a]\nsource = "x" # why\nbatch_size = 8  # slow disk\n\n# the other one\n[b]\nsource = "y"'
    assert rewrite(text, "a", {"batch_size": 16, "workers": 2}) == (
        '[a]\nsource = "x" # why\nbatch_size = 16  # slow disk\nworkers = 2\n\n# the other one\n[b]\nsource = "y"'
    )
    assert rewrite(text, "b", {"workers": 2}).endswith('# the other one\n[b]\nsource = "y"\nworkers = 2\n')


@pytest.mark.parametrize(
    "text",
    [
        'a = { source = "x" }\n',
        'a.source = "x"\na.batch_size = 8\n',
        '[a.source]\nfolder = "x"\n',
        "[a]\n[a.p]\nq = 1\n",
    ],
)
def test_other_ways_to_write_a_table(text: str) -> None:
    """Inline, dotted or without a key of its own: what is read afterwards is what was wanted."""
    found = tomllib.loads(rewrite(text, "a", {"workers": 2, "batch_size": 64}))
    assert found["a"] == {**tomllib.loads(text)["a"], "workers": 2, "batch_size": 64}


def test_what_stays_the_same_is_not_written() -> None:
    """`auto` that means the chosen value stays `auto`; workers and threads go together."""
    assert changes(START, START) == {}
    assert changes(START, replace(START, batch_size=64)) == {"batch_size": 64}
    assert changes(START, replace(START, workers=1, token_budget=512)) == {
        "workers": 1,
        "threads": 1,
        "token_budget": 512,
    }


def test_a_model_that_is_gone_is_told(tmp_path: Path) -> None:
    """Somebody has edited the file meanwhile: a sentence, and the file as it was."""
    file = tmp_path / "models.toml"
    file.write_text('[b]\nsource = "y"\n')
    with pytest.raises(OpsError, match="a is no longer in it; nothing was written"):
        write(file, "a", {"workers": 2})
    assert file.read_text() == '[b]\nsource = "y"\n'
