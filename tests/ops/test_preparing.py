"""What other commands do while one prepares or drains for minutes: real locks, real processes."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from archives.placement import Need
from archives.progress import SILENT, Progress
from env.hardware import detect
from ops.cli import app
from ops.deploy import command
from ops.desired import Served, commit, desired_file, write_models
from ops.down import Down, bring_down
from ops.errors import OpsError
from ops.exclusive import exclusive, lock_file
from ops.gateway.keys import with_new
from ops.prepare import Prepared
from ops.probe import Reference
from ops.served import appearing, prune
from ops.settings import Settings
from ops.store_owners import claim
from ops.supervisor.control import Supervisor
from ops.up import settled
from tests.ops.gateway.running import gateway, settings_for

# `embedkit up` and `deploy` whose download lasts until a line comes, and a deploy that drains as long
PREPARES = """
import sys
from ops import cli, up
from ops.deploy import command
def slow(*_):
    print("at work", flush=True)
    sys.stdin.readline()
    return {}
up.make_ready = command.prepare = slow
command._served = lambda *_: None
cli.app(["@", *(["minilm"] if "@" == "deploy" else [])])
"""
DRAINS = """
import sys
from ops.exclusive import exclusive, lock_file
from ops.settings import load_settings
with exclusive(lock_file(load_settings()), print):
    print("at work", flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def at_work(settings: Settings, script: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, **environment(settings)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=-1, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "at work\n"
            yield other
        finally:
            other.kill()


def environment(settings: Settings) -> Mapping[str, str]:
    names = ("var", "store", "inference_port", "exporter_port", "gateway_port", "gateway_metrics_port")
    return {f"EMBEDKIT_{name.upper()}": str(getattr(settings, name)) for name in names}


@pytest.mark.timeout(60)
@pytest.mark.needs("haproxy")
@pytest.mark.parametrize(
    "script", [PREPARES.replace("@", "up"), PREPARES.replace("@", "deploy"), DRAINS], ids=["up", "deploy", "drain"]
)
def test_a_key_is_revoked_while_a_deploy_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """A running HAProxy refuses it within a second of the command, though the deployment's lock is not to be had."""
    settings = settings_for(tmp_path, store=tmp_path / "store")
    keys, key = with_new({}, "alice")
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    with gateway(settings, keys=keys) as running, at_work(settings, script):

        def status() -> int:
            return requests.get(
                f"{running.url}/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=5
            ).status_code

        assert status() == 200
        began = time.monotonic()
        done = CliRunner().invoke(app, ["key", "revoke", "alice"])
        assert (done.exit_code, status()) == (0, 401), done.output
        assert time.monotonic() - began < 1


@pytest.mark.timeout(60)
def test_down_waits_for_nobody_who_prepares_and_wins(tmp_path: Path) -> None:
    """An `up` that packs holds no lock: `down` is done at once, and the `up` starts nothing after it."""
    settings = settings_for(tmp_path, store=tmp_path / "store")
    with at_work(settings, PREPARES.replace("@", "up")) as up:
        said: list[str] = []
        assert bring_down(settings, said.append) == Down(ran=False)
        assert said == []
        _, errors = up.communicate("\n", timeout=20)
        assert up.returncode == 1
        assert "`embedkit down` came while this prepared, so nothing is started" in " ".join(errors.split())
    assert not settings.file.exists()


def served(name: str, content: str = "a") -> Served:
    return Served(name, "1.0", f"{name}-1.0-{content}.mar", content)


def test_what_other_commands_have_changed_meanwhile_stays(tmp_path: Path) -> None:
    """Taken out: left out; brought or replaced: as the other has it; the rest as it was prepared."""
    settings, said = Settings(var=tmp_path, store=tmp_path / "store"), list[str]()

    class Saying(Progress):
        def say(self, line: str) -> None:
            said.append(line)

    names = ("same", "out", "replaced", "named")
    ready = {name: Prepared(served(name, "new"), Reference("a", ()), Need(name, 1, 1, on_gpu=False)) for name in names}
    before = {name: served(name) for name in ("same", "out", "replaced")}
    now = [served("same"), served("replaced", "other")]
    write_models(desired_file(settings), {one.model: one for one in now})
    goal = settled(settings, ready, before, Saying(), detect())
    assert goal == {
        "same": served("same", "new"),
        "replaced": served("replaced", "other"),
        "named": served("named", "new"),
    }
    assert said == [
        "out: `embedkit down out` came meanwhile: it is left out",
        "replaced: another command brought replaced-1.0-other.mar meanwhile, which stays",
    ]
    write_models(desired_file(settings), {})
    with pytest.raises(OpsError, match="each model was taken out"):
        settled(settings, {"out": ready["out"]}, before, SILENT, detect())


def test_a_deploy_does_not_replace_what_came_while_it_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback needs no lock that a packing deploy has; the deploy then leaves the server alone, and says so."""
    models_file = tmp_path / "models.toml"
    models_file.write_text('[m]\nsource = { folder = "m" }\n')
    settings = Settings(var=tmp_path / "var", store=tmp_path / "store", models_file=models_file)
    commit(settings, served("m", "old"))
    monkeypatch.setattr(Supervisor, "runs", lambda *_: True)

    def rolled_back(*_: object) -> None:
        with exclusive(lock_file(settings), print, wait_s=0):
            commit(settings, served("m", "older"))

    monkeypatch.setattr(command, "prepare", rolled_back)
    with pytest.raises(OpsError, match=r"m: m-1.0-older.mar took the place of m-1.0-old.mar while this prepared"):
        command.deploy_model(settings, "m", SILENT)


@pytest.mark.timeout(60)
def test_nothing_that_another_prepares_is_pruned(tmp_path: Path) -> None:
    """What lies in store/served and is not desired yet stays until nobody prepares."""
    settings = settings_for(tmp_path, store=tmp_path / "store")
    claim(settings, ["m-1.0-a.mar"])
    with appearing(settings, "m-1.0-a.mar") as beside:
        beside.write_bytes(b"")
    with at_work(settings, PREPARES.replace("@", "up")), exclusive(lock_file(settings), print):
        prune(settings)
        assert (settings.served / "m-1.0-a.mar").exists()
    prune(settings)
    assert not (settings.served / "m-1.0-a.mar").exists()
