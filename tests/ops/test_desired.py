"""The desired state on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ops import desired
from ops.desired import (
    Served,
    commit,
    desired_file,
    forget,
    previous_file,
    read_models,
    rolled_back_file,
    write_models,
)
from ops.errors import OpsError
from ops.settings import Settings


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The state survives a round trip; none written yet reads as empty."""
    file = tmp_path / "state" / "desired.json"
    assert read_models(file) == {}
    models = {"minilm": Served("minilm", "1.0", "minilm-1.0.mar", "aa")}
    write_models(file, models)
    assert read_models(file) == models
    assert [entry.name for entry in file.parent.iterdir()] == ["desired.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"models":[{"model":"x"}]}',
        '{"models":7}',
        '{"models":[{"model":"x","version":"1","archive":5,"sha256":"0"}]}',
    ],
)
def test_a_damaged_file_says_what_to_do(tmp_path: Path, content: str) -> None:
    """A file cut short or edited is named with the next step, never a traceback."""
    file = tmp_path / "desired.json"
    file.write_text(content)
    with pytest.raises(OpsError, match=r"is damaged .* remove it"):
        read_models(file)


A, B = Served("m", "1.0", "m-1.0-a.mar", "aa"), Served("m", "1.0", "m-1.0-b.mar", "bb")


def states(settings: Settings) -> list[Served | None]:
    """What is served, what was before, and what was rolled back from."""
    return [read_models(of(settings)).get("m") for of in (desired_file, previous_file, rolled_back_file)]


def test_a_commit_remembers_what_was_served(tmp_path: Path) -> None:
    """The way back, and whether it was taken, are written with the choice; the same choice again changes nothing."""
    settings = Settings(var=tmp_path)
    commit(settings, A)
    assert states(settings) == [A, None, None]
    commit(settings, B)
    commit(settings, B)
    assert states(settings) == [B, A, None]
    commit(settings, A, rolling_back=True)
    assert states(settings) == [A, B, B]
    commit(settings, B)
    assert states(settings) == [B, A, None]
    forget(settings, "m")
    assert states(settings) == [B, None, None]


@pytest.mark.parametrize("written", [previous_file, rolled_back_file])
def test_a_commit_that_ends_halfway_leaves_the_old_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Callable[[Settings], Path]
) -> None:
    """Whatever is written when it is killed: what is served is the old, and the next commit is whole."""
    settings = Settings(var=tmp_path)
    commit(settings, A)
    real = desired.write_models

    def until(path: Path, models: dict[str, Served]) -> None:
        real(path, models)
        if path == written(settings):
            raise KeyboardInterrupt

    monkeypatch.setattr(desired, "write_models", until)
    with pytest.raises(KeyboardInterrupt):
        commit(settings, B)
    monkeypatch.undo()
    assert states(settings)[0] == A
    commit(settings, B)
    assert states(settings) == [B, A, None]
