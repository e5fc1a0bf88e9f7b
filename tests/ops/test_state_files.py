"""State files of another version of the kit: an update in place, and the way back from one."""

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from ops.deploy.removed import add_removed, removed_workers
from ops.desired import Served, desired_file, read_models, write_models
from ops.pause import Pause, pause, paused
from ops.settings import Settings
from ops.state_files import SCHEMA
from ops.supervisor.watchdog.ledger import Ledger, ledger_file, read_ledger
from ops.taken import Taken
from ops.torchserve.launcher import in_force, read_settings
from ops.up import write_settings

OLD = Path(__file__).with_name("state_41585b3")  # as `embedkit up`, `pause` and 15 s of a watchdog left it
ONE = Served("minilm", "1.0", "minilm-1.0-9ad2e2231402.mar", "9ad2" * 16)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var", store=tmp_path / "store", gateway_wait_s=31)


def test_the_state_of_the_first_release_is_read(settings: Settings) -> None:
    """Files without a schema version, of commit 41585b3: settings, desired state, pause, digests, the watchdog's."""
    settings.state.mkdir(parents=True)
    for file in OLD.iterdir():
        shutil.copy(file, settings.state)
    found = read_settings(settings.file)
    assert (found.gateway_wait_s, found.prometheus, found.canary_interval_s) == (30, "off", 15.0)
    assert list(read_models(desired_file(settings))) == ["minilm"]
    paused_then = paused(settings, 0)
    assert paused_then is not None
    assert paused_then.reason == "why"
    ledger = read_ledger(ledger_file(settings))
    assert ledger.actions["end_worker", "minilm"] == 0
    digest = orjson.loads((OLD / "taken.json").read_bytes())["gateway"]
    assert Taken(settings, {"gateway": digest, "exporter": "changed since"}).stale() == ["exporter"]
    (settings.state / "removed-workers.json").write_text('{"minilm": 2}')
    add_removed(settings, "minilm", 1)
    assert removed_workers(settings) == {"minilm": 3}


def _write_all(settings: Settings) -> None:
    write_settings(settings)
    write_models(desired_file(settings), {"minilm": ONE})
    pause(settings, Pause("why", 1.0))
    Ledger(at=2.0, reviving={"minilm": ("1.0", 2)}).write(ledger_file(settings))
    Taken(settings, {"gateway": "d"}).mark(["gateway"])
    add_removed(settings, "minilm", 1)


def _read_all(settings: Settings) -> list[object]:
    return [
        read_settings(settings.file),
        read_models(desired_file(settings)),
        paused(settings, 1.0),
        read_ledger(ledger_file(settings)),
        Taken(settings, {"gateway": "d"}).stale(),
        removed_workers(settings),
    ]


def _grown(value: Any) -> Any:
    """The value as a later version may write it: a key more in every object that is a record, at any depth."""
    if isinstance(value, list):
        return [_grown(each) for each in value]
    return {**{key: _grown(each) for key, each in value.items()}, "later": 1} if isinstance(value, dict) else value


def test_the_state_of_a_later_version_is_read(settings: Settings) -> None:
    """Each file with keys that this version does not know says to it what it said before; all carry a schema version.

    Left alone are tables whose keys are models' names: `workers` of those that were removed, `reviving`.
    """
    _write_all(settings)
    before = _read_all(settings)
    assert before[0] == settings
    for file in settings.state.glob("*.json"):
        content = orjson.loads(file.read_bytes())
        assert content["schema"] == SCHEMA
        tables = {key: content[key] for key in ("workers", "reviving") if key in content}
        file.write_bytes(orjson.dumps({**_grown(content), **tables, "schema": SCHEMA + 1}))
    assert _read_all(settings) == before


def test_a_setting_that_is_gone_does_not_keep_the_programs_from_starting(settings: Settings) -> None:
    """One that an earlier version had and one that it lacked: the known rest holds, with the default for the new."""
    write_settings(settings)
    content = orjson.loads(settings.file.read_bytes())
    del content["gateway_route_kb"]
    settings.file.write_bytes(orjson.dumps({**content, "workers_of_old": 3}))
    assert read_settings(settings.file) == settings
    assert in_force(Settings(var=settings.var)) == settings


@pytest.mark.parametrize("content", ["", "[]", "7", "{", '{"host": 3}'])
def test_what_is_no_state_is_a_value_error(tmp_path: Path, content: str) -> None:
    """A file cut short or overwritten is never read as an empty one: every program takes it for damaged."""
    file = tmp_path / "settings.json"
    file.write_text(content)
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the JSON reader's or pydantic's
        read_settings(file)
