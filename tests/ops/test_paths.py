"""Odd folders: a character either works in everything that is rendered, as the programs themselves read it, or is
refused before anything is written."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from supervisor.options import ServerOptions

from archives.progress import SILENT
from env.jdk import packaged_java
from ops.errors import OpsError
from ops.foreground import run_service
from ops.observers import write_files
from ops.prometheus.config import prometheus_command, prometheus_files
from ops.settings import ROOT, Settings
from ops.supervisor.config import check_paths, config_file, install, pid_file
from ops.supervisor.programs import Program
from ops.torchserve.config import config_properties, java_command, log4j2_xml
from ops.up import bring_up
from tests.e2e.stack import free_ports
from tests.ops.prometheus.promtool import promtool

REFUSED = (
    "#",
    " # ",
    "?",
    "$",
    "${x}",
    "%",
    "%(here)s",
    ",",
    ";",
    "'",
    '"',
    "\\",
    "*",
    "[x]",
    "`",
    "\n",
    "\t",
    "\udcff",
)
WORKS = (" ", "ü 好", "{x}", "]", "(2)", "&<>|", "!~^", "=+@:")


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder near the root, as a socket's path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ek-") as folder:
        yield Path(folder)


def in_folder(tmp_path: Path, odd: str) -> Settings:
    var = tmp_path / f"a{odd}b" / "v"
    return Settings(var=var, store=var / "store")


@pytest.mark.parametrize("odd", REFUSED)
def test_what_some_program_cannot_take_is_refused_first(odd: str, tmp_path: Path) -> None:
    """`up` and `run` name setting, character and way out, and have written nothing."""
    settings = in_folder(tmp_path, odd)
    char = next(char for char in odd if char != " ")
    starts: tuple[Callable[[], object], ...] = (
        lambda: bring_up(settings, [], SILENT),
        lambda: run_service(settings, [], SILENT, server=True),
    )
    for start in starts:
        with pytest.raises(OpsError) as caught:
            start()
        said = str(caught.value)
        assert said.isprintable()
        assert f"the character {char!r}, which" in said
        assert said.endswith("set EMBEDKIT_STORE to another path")
    assert list(tmp_path.iterdir()) == []


def test_every_path_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting that is a path, the checkout and its environment; below those no colon either, for Java."""
    for name in ("var", "store", "models_file", "gateway_keys", "gateway_tls"):
        with pytest.raises(OpsError, match=f"^{name}: .*EMBEDKIT_{name.upper()} "):
            check_paths(Settings(**{name: tmp_path / "a;b"}))
    monkeypatch.setattr("ops.supervisor.config.ROOT", tmp_path / "a:b")
    with pytest.raises(OpsError, match="Java's class path: move the checkout"):
        check_paths(Settings(var=tmp_path))


def test_set_up_refuses_such_a_checkout(tmp_path: Path) -> None:
    """In a clone there, before a file of it is written."""
    root = tmp_path / "a#b"
    shutil.copytree(ROOT / "env", root / "env", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-B", "-m", "env.bootstrap"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the character '#', which means something to supervisord: move the checkout" in done.stderr
    assert [path.name for path in root.iterdir()] == ["env"]


@pytest.mark.parametrize("odd", WORKS)
def test_supervisord_reads_what_was_meant(odd: str, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """supervisord's own reading of the file has each path and each word of each command as it was."""
    settings = in_folder(short, odd)
    for folder in (settings.run, settings.logs):
        folder.mkdir(parents=True)
    install(settings, [Program("prometheus", prometheus_command("/usr/bin/prometheus", settings))])
    monkeypatch.setattr(sys, "argv", ["supervisord"])
    options = ServerOptions()
    options.realize(["-c", str(config_file(settings))])
    assert (options.pidfile, options.directory) == (str(pid_file(settings)), str(settings.run))
    found = {group.name: group.process_configs[0] for group in options.process_group_configs}
    assert found["torchserve"].stdout_logfile == str(settings.logs / "torchserve.log")
    assert found["exporter"].directory == str(settings.run)
    for name in ("torchserve", "exporter", "watchdog", "prometheus"):
        program = found[name]
        words = shlex.split(program.command)  # as supervisord does
        assert words[-1] == str(settings.file) or words[1] == f"--config.file={settings.etc / 'prometheus.yml'}"


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("odd", WORKS)
def test_prometheus_finds_its_rules_there(odd: str, tmp_path: Path) -> None:
    """Those of this deployment, each once; of another one beside it, none."""
    for other in (in_folder(tmp_path, "x"), in_folder(tmp_path, odd)):
        write_files({"prometheus": prometheus_files(other, alerting=True)})
    done = promtool("check", "config", in_folder(tmp_path, odd).etc / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


def test_torchserve_logs_there(tmp_path: Path) -> None:
    """The real one, in a folder of all that works: it answers, and its logs lie where they should."""
    names = ("inference", "management", "metrics", "grpc_inference", "grpc_management")
    ports = {f"{name}_port": port for name, port in zip(names, free_ports(len(names)), strict=True)}
    settings = Settings(**{**in_folder(tmp_path, "".join(WORKS)).model_dump(), **ports, "jvm_heap_mb": 256})
    for folder in (settings.etc, settings.run, settings.logs, settings.temp, settings.served):
        folder.mkdir(parents=True)
    (settings.etc / "config.properties").write_text(config_properties(settings, []))
    (settings.etc / "log4j2.xml").write_text(log4j2_xml(settings))
    java = packaged_java()
    assert java is not None
    site_packages = Path(sysconfig.get_paths()["purelib"])
    environ = {**os.environ, "LC_ALL": "C.UTF-8", "LOG_LOCATION": str(settings.logs)}
    command = java_command(java, Path(sys.executable), site_packages, settings)
    with subprocess.Popen(
        command, cwd=settings.run, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as jvm:
        try:
            deadline = time.monotonic() + 60
            while jvm.poll() is None and time.monotonic() < deadline and not pings(settings):
                time.sleep(0.1)
            assert pings(settings)
        finally:
            jvm.terminate()
            said, _ = jvm.communicate(timeout=20)
    assert {path.name for path in settings.logs.iterdir()} >= {"ts.log", "access.log"}, said.decode()
    assert b"ERROR" not in said


def pings(settings: Settings) -> bool:
    try:
        return requests.get(settings.inference_url("/ping"), timeout=2).status_code == 200
    except requests.RequestException:
        return False


def test_the_log_configuration_is_a_proper_url() -> None:
    """A character that means something in a URL is written as such."""
    command = java_command(Path("/java"), Path("/python"), Path("/site"), Settings(var=Path("/a #?%b")))
    assert "-Dlog4j.configurationFile=file:///a%20%23%3F%25b/etc/log4j2.xml" in command
