"""supervisord.conf and what supervisorctl finds."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.settings import Settings
from ops.supervisor.config import check_paths, install, link_for_supervisorctl, supervisord_conf
from ops.supervisor.programs import checked


def test_the_jvm_is_watched_as_the_facts_ask() -> None:
    """TERM, the whole group killed at the end, a wait above the drain, restarts without limit after a crash."""
    parser = configparser.RawConfigParser()
    parser.read_string(supervisord_conf(Settings(stop_timeout_s=17)))
    program = parser["program:torchserve"]
    assert (program["stopsignal"], program["killasgroup"], program["stopwaitsecs"]) == ("TERM", "true", "17")
    assert program["autorestart"] == "true"


def test_the_exporter_ends_cleanly_and_comes_back() -> None:
    """A program of its own with the settings that are in force, restarted whenever it ends."""
    parser = configparser.RawConfigParser()
    parser.read_string(supervisord_conf(Settings()))
    program = parser["program:exporter"]
    assert program["command"].endswith(f'"-m" "ops.exporter" "{Settings().state / "settings.json"}"')
    assert (program["stopsignal"], program["autorestart"]) == ("TERM", "true")


def test_the_watchdog_listens_and_logs_apart(tmp_path: Path) -> None:
    """An event listener of ticks: its stdout is the protocol's, its log is what it says on stderr."""
    settings = Settings(var=tmp_path)
    parser = configparser.RawConfigParser()
    parser.read_string(supervisord_conf(settings))
    listener = parser["eventlistener:watchdog"]
    assert listener["command"].endswith(f'"-m" "ops.supervisor.watchdog" "{settings.state / "settings.json"}"')
    assert (listener["events"], listener["autorestart"], listener["stdout_logfile"]) == ("TICK_5", "true", "NONE")
    assert listener["stderr_logfile"] == str(settings.logs / "watchdog.log")
    assert "redirect_stderr" not in listener


def test_installing_twice_changes_nothing(tmp_path: Path) -> None:
    """The second write of the same configuration reports no change; another setting does."""
    settings = Settings(var=tmp_path)
    assert install(settings)
    assert not install(settings)
    assert install(Settings(var=tmp_path, log_mb=3))


@pytest.mark.parametrize("path", ["/a;b", "/a #b", "/a%b", '/a"b', "/a\\b"])
def test_what_supervisord_cannot_read_is_refused(path: str) -> None:
    """A path with a character that means something to supervisord is refused by name, with the way out."""
    assert checked("/a b/ü") == "/a b/ü"
    with pytest.raises(OpsError, match="move the program"):
        checked(path)


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """The 108 bytes of a unix socket's path are checked before anything starts, with the way out."""
    with pytest.raises(OpsError, match=r"107 bytes.*EMBEDKIT_VAR"):
        check_paths(Settings(var=tmp_path / ("x" * 100)))


def test_supervisorctl_before_up_says_what_to_do(tmp_path: Path) -> None:
    """The real supervisorctl, without flags and with nothing running, names `make up` and exits 7."""
    settings = Settings(var=tmp_path / "var")
    install(settings)
    link_for_supervisorctl(settings, tmp_path)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "supervisorctl"
    shutil.copy(Path(sys.executable).parent / "supervisorctl", program)
    done = subprocess.run([program, "status", "torchserve"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 7
    assert "start it with `make up`" in done.stderr
    assert "refused" not in done.stdout + done.stderr


def test_a_strangers_configuration_is_not_replaced(tmp_path: Path) -> None:
    """A file at <environment>/etc/supervisord.conf that is not our link is named and kept."""
    (tmp_path / "etc").mkdir()
    stranger = tmp_path / "etc" / "supervisord.conf"
    stranger.write_text("[supervisord]\n")
    with pytest.raises(OpsError, match=str(stranger)):
        link_for_supervisorctl(Settings(var=tmp_path / "var"), tmp_path)
    assert stranger.read_text() == "[supervisord]\n"
