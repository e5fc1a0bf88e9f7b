"""What `embedkit run` decides before it becomes the service; tests/container runs it for real."""

import json
from pathlib import Path

import pytest

from archives.errors import CatalogueError
from archives.progress import SILENT
from env.errors import PinError
from ops import foreground
from ops.desired import Served, desired_file, write_models
from ops.errors import OpsError
from ops.foreground import exact_specs, run_service
from ops.settings import Settings
from ops.supervisor.control import Supervisor
from ops.torchserve import launcher


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var", store=tmp_path / "store", prometheus="off", alertmanager="off", grafana="off")


def test_named_models_are_all_that_is_served(settings: Settings) -> None:
    """It serves what its arguments say, whatever an earlier run left to be served; else that, or the default."""
    assert list(exact_specs(settings, [])) == ["minilm"]
    write_models(desired_file(settings), {"tao_8k": Served("tao_8k", "1.0", "tao_8k-1.0-a.mar", "a")})
    assert list(exact_specs(settings, [])) == ["tao_8k"]
    assert list(exact_specs(settings, ["minilm"])) == ["minilm"]
    with pytest.raises(CatalogueError, match="did you mean minilm"):
        exact_specs(settings, ["minilml"])


def test_it_becomes_what_supervisord_would_run(settings: Settings) -> None:
    """With --server it becomes the launcher that supervisord would run, with its log on stdout; else supervisord."""
    command, _ = foreground._commands(settings, (), SILENT, server=True)
    assert command[1:] == ["-m", "ops.torchserve.launcher", str(settings.file), "--console"]
    assert json.loads(settings.file.read_bytes())["store"] == str(settings.store)
    command, _ = foreground._commands(settings, (), SILENT, server=False)
    assert command[1:] == ["-c", str(settings.etc / "supervisord.conf"), "--nodaemon"]
    assert (settings.etc / "supervisord.conf").is_file()


def test_the_launcher_says_what_is_wrong_with_the_pins(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip in env/pins.toml, which it reads for the JDK, is a line of its log and no traceback."""

    def slip(*_: object, **__: object) -> None:
        raise PinError("env/pins.toml: jdk.wanted is missing")

    monkeypatch.setattr(launcher, "read_settings", lambda _: settings)
    monkeypatch.setattr(launcher, "prepare", slip)
    monkeypatch.setattr("sys.argv", ["launcher", "settings.json"])
    assert launcher.main() == 1
    assert capsys.readouterr().out == "embedkit launcher: env/pins.toml: jdk.wanted is missing\n"


def test_a_second_service_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a supervisord of the same var/ it refuses and names what stops that one."""
    monkeypatch.setattr(Supervisor, "running", lambda _: True)
    with pytest.raises(OpsError, match=r"runs already: `embedkit down`"):
        run_service(settings, [], SILENT, server=True)
