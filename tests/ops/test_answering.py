"""What `up` waits for at its end: every program past its first seconds, and its door open."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from ops import answering
from ops.answering import wait_until_answering
from ops.errors import OpsError
from ops.probe import Reference
from ops.settings import Settings
from ops.supervisor.config import config_file, pid_file, socket_file
from ops.supervisor.control import Supervisor, environment
from tests.ops.gateway.running import gateway, settings_for
from tests.ops.gateway.stand_in import StandIn, serving

# Answers /metrics at once and /healthz after a while, as an exporter whose first canary is under way.
EXPORTER = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
began = time.monotonic()
class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if self.path == "/healthz" and time.monotonic() < began + float(sys.argv[2]) else 200)
        self.end_headers()
        self.wfile.write(b'{"status":"a status"}')
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answering).serve_forever()
"""
BROKEN = "import sys; sys.exit('cannot bind socket [192.0.2.9:8000]')"
RIGHT, WRONG = Reference("a text", (1.0, 0.0)), Reference("a text", (0.0, 1.0))


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Short: a unix socket lies below it."""
    with tempfile.TemporaryDirectory(prefix="ek-") as folder:
        yield settings_for(Path(folder) / "var", canary_interval_s=1)


@pytest.fixture
def supervised(settings: Settings) -> Iterator[ExitStack]:
    with ExitStack() as until:
        yield until


def boot(settings: Settings, until: ExitStack, **programs: tuple[str, ...]) -> None:
    """A real supervisord with these programs, each a script and its arguments."""
    for folder in (settings.etc, settings.run, settings.logs):
        folder.mkdir(parents=True, exist_ok=True)
    sections = ""
    for name, (script, *arguments) in programs.items():
        file = settings.var / f"{name}.py"
        file.write_text(script)
        sections += (
            f"[program:{name}]\ncommand={sys.executable} {file} {' '.join(arguments)}\nstartsecs=1\nstartretries=0\n"
            f"redirect_stderr=true\nstdout_logfile={settings.logs}/{name}.log\n"
        )
    config_file(settings).write_text(
        f"[unix_http_server]\nfile={socket_file(settings)}\n"
        f"[supervisord]\nlogfile={settings.logs}/supervisord.log\npidfile={pid_file(settings)}\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n" + sections
    )
    binary = Path(sys.executable).parent / "supervisord"
    subprocess.run([str(binary), "-c", str(config_file(settings))], env=environment(), check=True, timeout=20)

    def end() -> None:
        root = psutil.Process(int(pid_file(settings).read_text()))
        below = root.children()
        Supervisor(settings).shut_down(20)
        psutil.wait_procs(below, 5)

    until.callback(end)


def test_it_waits_for_health_and_for_the_first_seconds(settings: Settings, supervised: ExitStack) -> None:
    """A 503 of /healthz, and a program that is too young, are waited for."""
    boot(settings, supervised, exporter=(EXPORTER, str(settings.exporter_port), "2"))
    said: list[str] = []
    wait_until_answering(settings, {}, said.append)
    assert said == ["waiting for exporter"]
    assert Supervisor(settings).program("exporter").state == "RUNNING"
    assert answering._get(settings.exporter_url("/healthz")) == ""


def test_a_program_that_ends_is_an_error_with_its_last_words(settings: Settings, supervised: ExitStack) -> None:
    """Which one, in what state, the end of its log, and the next step."""
    boot(settings, supervised, exporter=(EXPORTER, str(settings.exporter_port), "0"), gateway=(BROKEN,))
    with pytest.raises(OpsError, match=r"(?s)^gateway is FATAL .*EMBEDKIT_GATEWAY=off.*cannot bind socket \[192"):
        wait_until_answering(settings, {}, lambda _: None)


def test_a_program_that_runs_and_does_not_answer_is_one_too(
    settings: Settings, supervised: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the address that was tried and what came back."""
    monkeypatch.setattr(answering, "LIMIT_S", 1.0)
    boot(settings, supervised, exporter=(EXPORTER, str(settings.exporter_port), "600"))
    with pytest.raises(OpsError, match=rf"^exporter {settings.exporter_url('/healthz')} says 503 .*a status"):
        wait_until_answering(settings, {}, lambda _: None)


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::", "0.0.0.0"])
def test_the_gateway_is_tried_by_a_vector(settings: Settings, host: str) -> None:
    """Through a real HAProxy, on whatever address it listens: the right vector, or what is wrong; a closed one is not
    sent a text."""
    made = settings.model_copy(update={"gateway_host": host})
    torchserve, exporter = StandIn(made.inference_port), StandIn(made.exporter_port)
    assert "does not answer" in answering._gateway(made, {"minilm": RIGHT})
    with serving(torchserve), serving(exporter):
        with gateway(made):
            assert answering._gateway(made, {"minilm": RIGHT}) == ""
            assert "gives a wrong vector of minilm" in answering._gateway(made, {"minilm": WRONG})
            exporter.refuses = 503
            assert "/healthz says 503" in answering._gateway(made, {"minilm": RIGHT})
            exporter.refuses = None
        with gateway(made, keys={}):
            torchserve.arrived.clear()
            assert answering._gateway(made, {"minilm": RIGHT}) == ""
            assert torchserve.arrived == []
