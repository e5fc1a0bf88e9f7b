"""Which observers run, with what files, and an alert on its way from a real Prometheus to a webhook."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from ops.errors import OpsError
from ops.observers import Plan, plan, write_files
from ops.settings import Settings
from ops.supervisor.config import socket_file, supervisord_conf
from ops.torchserve import leftovers
from tests.e2e.stack import free_ports
from tests.ops.prometheus.promtool import promtool
from tests.ops.prometheus.server import running, wait_for


def planned(settings: Settings, *, here: tuple[str, ...], taken: tuple[int, ...] = (), ours: Any = None) -> Plan:
    return plan(
        settings,
        ours=ours or {},
        port_is_free=lambda port: port not in taken,
        binary_of=lambda name: "/usr/bin/" + name if name in here else None,
    )


NO_GRAFANA = ("prometheus", "alertmanager")


@pytest.mark.parametrize(
    ("given", "here", "taken", "runs"),
    [
        ({}, NO_GRAFANA, (), NO_GRAFANA),
        ({}, (), (), ()),
        ({"prometheus": "off"}, NO_GRAFANA, (), ("alertmanager",)),
        ({}, NO_GRAFANA, (9090,), ("alertmanager",)),
        ({"prometheus": "on"}, ("prometheus",), (), ("prometheus",)),
    ],
)
def test_what_runs(given: Any, here: tuple[str, ...], taken: tuple[int, ...], runs: tuple[str, ...]) -> None:
    """`auto` runs what is installed and has its port, `off` nothing; a taken port is told with the ways out."""
    found = planned(Settings(**given), here=here, taken=taken)
    assert tuple(program.name for program in found.programs) == runs
    assert len(found.notes) == len(taken)
    for note in found.notes:
        assert re.search(r"port 9090 is in use.*EMBEDKIT_PROMETHEUS_PORT.*EMBEDKIT_PROMETHEUS=off", note)


def test_the_gateway_needs_both_its_ports() -> None:
    """HAProxy runs where it is installed; either port taken is told, and its metrics are scraped where it runs."""
    here = ("gateway", "prometheus")
    found = planned(Settings(), here=here)
    assert [program.name for program in found.programs] == ["gateway", "prometheus"]
    jobs = yaml.safe_load(found.files["prometheus"][Settings().etc / "prometheus.yml"])["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["embedkit", "embedkit-gateway"]
    for port, variable in ((8000, "EMBEDKIT_GATEWAY_PORT"), (8404, "EMBEDKIT_GATEWAY_METRICS_PORT")):
        without = planned(Settings(), here=here, taken=(port,))
        assert [program.name for program in without.programs] == ["prometheus"]
        assert re.search(rf"port {port} is in use.*{variable}.*EMBEDKIT_GATEWAY=off.*gateway\.md", without.notes[0])
    ours = {"gateway": 8000, "gateway_metrics": 8404}
    assert planned(Settings(), here=here, taken=(8000, 8404), ours=ours).notes == ()


def test_our_own_port_is_not_taken() -> None:
    """On the second `up` the port is held by the Prometheus that runs already, which stays."""
    found = planned(Settings(), here=NO_GRAFANA, taken=(9090,), ours={"prometheus": 9090})
    assert [program.name for program in found.programs] == ["prometheus", "alertmanager"]
    moved = planned(Settings(prometheus_port=9190), here=NO_GRAFANA, taken=(9090, 9190), ours={"prometheus": 9090})
    assert "port 9190 is in use" in moved.notes[0]


def test_one_that_is_gone_from_path_is_told() -> None:
    """What runs and is not found any more is stopped, and that is said; what never ran is not spoken of."""
    found = planned(Settings(), here=("prometheus",), ours={"prometheus": 9090, "alertmanager": 9093})
    assert [program.name for program in found.programs] == ["prometheus"]
    assert found.notes == ("alertmanager is stopped: alertmanager or prometheus-alertmanager is not in PATH any more",)


@pytest.mark.parametrize(("here", "taken", "said"), [((), (), "not installed"), (("prometheus",), (9090,), "9090")])
def test_on_is_a_promise(here: tuple[str, ...], taken: tuple[int, ...], said: str) -> None:
    """What is `on` and cannot run is an error that names the way out."""
    with pytest.raises(OpsError, match=f"{said}.*EMBEDKIT_PROMETHEUS=off"):
        planned(Settings(prometheus="on"), here=here, taken=taken)


def test_grafana_runs_with_what_it_needs(tmp_path: Path) -> None:
    """With a Grafana installed, its files lead to the data source and the dashboards, with this deployment's ports."""
    binary = tmp_path / "bin" / "grafana"
    for path in (binary, tmp_path / "share" / "grafana" / "conf" / "defaults.ini"):
        path.parent.mkdir(parents=True)
        path.touch()
    settings = Settings(var=tmp_path / "var", prometheus_port=9190, grafana_port=3100)
    found = plan(settings, ours={}, port_is_free=lambda _: True, binary_of={"grafana": str(binary)}.get)
    (program,) = found.programs
    assert program.command[:2] == (str(binary), "server")
    write_files(found.files)
    etc = settings.etc / "grafana"
    assert "http_port = 3100" in (settings.etc / "grafana.ini").read_text()
    source = yaml.safe_load((etc / "datasources" / "embedkit.yaml").read_text())["datasources"][0]
    assert (source["type"], source["url"]) == ("prometheus", "http://127.0.0.1:9190")
    folder = yaml.safe_load((etc / "dashboards" / "embedkit.yaml").read_text())["providers"][0]["options"]["path"]
    boards = [json.loads(file.read_text()) for file in Path(folder).glob("*.json")]
    assert {board["title"] for board in boards} == {"Embedding service", "GPU and host"}
    for board in boards:
        runbooks = next(one for one in board["templating"]["list"] if one["name"] == "runbooks")
        assert runbooks["query"] == "http://127.0.0.1:9190/user"


def test_a_broken_grafana_stops_nobody(tmp_path: Path) -> None:
    """A Grafana without its folder is told in `auto`, and an error in `on`."""
    binaries = {"grafana": str(tmp_path / "bin" / "grafana")}
    found = plan(Settings(), ours={}, port_is_free=lambda _: True, binary_of=binaries.get)
    assert found.programs == ()
    assert "defaults.ini" in found.notes[0]
    with pytest.raises(OpsError, match=r"defaults\.ini"):
        plan(Settings(grafana="on"), ours={}, port_is_free=lambda _: True, binary_of=binaries.get)


def test_supervisord_reads_the_programs(tmp_path: Path) -> None:
    """Every command stands in supervisord.conf word for word."""
    settings = Settings(var=tmp_path)
    programs = planned(settings, here=NO_GRAFANA).programs
    conf = supervisord_conf(settings, programs)
    for program in programs:
        assert f"[program:{program.name}]" in conf
        assert all(f'"{word}"' in conf for word in program.command)


@pytest.mark.needs("promtool", "amtool")
def test_the_real_checkers_accept_the_files(tmp_path: Path) -> None:
    """promtool and amtool find no fault in what is rendered, with and without webhook."""
    for webhook in ("", "http://127.0.0.1:9/hook"):
        settings = Settings(var=tmp_path, alert_webhook=webhook)
        write_files(planned(settings, here=NO_GRAFANA).files)
        done = promtool("check", "config", settings.etc / "prometheus.yml")
        assert done.returncode == 0, done.stdout + done.stderr
        checked = subprocess.run(
            ["amtool", "check-config", settings.etc / "alertmanager.yml"], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert (webhook in (settings.etc / "alertmanager.yml").read_text()) is True
        assert (settings.etc / "alertmanager.yml").stat().st_mode & 0o777 == 0o600


def test_files_are_written_once(tmp_path: Path) -> None:
    """A second writing of the same changes nothing; another setting names whom it concerns."""
    assert write_files(planned(Settings(var=tmp_path), here=NO_GRAFANA).files) == {"prometheus", "alertmanager"}
    assert write_files(planned(Settings(var=tmp_path), here=NO_GRAFANA).files) == set()
    other = Settings(var=tmp_path, alert_webhook="http://127.0.0.1:9/")
    assert write_files(planned(other, here=NO_GRAFANA).files) == {"alertmanager"}


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver on loopback: its URL, and what it was sent."""
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/alerts", received
    server.shutdown()
    server.server_close()
    thread.join()


def quick(path: Path, text: str) -> str:
    """The same rules and routes without the waiting."""
    if path.name == "alerts.yml":
        return re.sub(r"for: \w+", "for: 0s", text)
    return text.replace("group_wait: 10s", "group_wait: 1s").replace("interval: 15s", "interval: 1s")


@pytest.mark.needs("prometheus", "amtool")
def test_an_alert_arrives_at_the_webhook(
    webhook: tuple[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus finds no exporter; through Alertmanager the receiver learns it, with a runbook that can be opened."""
    url, received = webhook
    prometheus, alertmanager, exporter = free_ports(3)
    settings = Settings(
        var=tmp_path,
        prometheus_port=prometheus,
        alertmanager_port=alertmanager,
        exporter_port=exporter,
        grafana="off",
        scrape_interval_s=1,
        alert_webhook=url,
    )
    monkeypatch.setenv(leftovers.MARK, f"unix://{socket_file(settings)}")  # as supervisord does
    with running(settings, quick, names=NO_GRAFANA):
        assert len(leftovers.programs(settings)) == 2  # what `embedkit down` would find without a supervisor
        wait_for(lambda: received, 90, "the alert at the webhook")
        message = received[0]
        assert (message["status"], message["commonLabels"]["alertname"]) == ("firing", "ExporterDown")
        annotations = message["alerts"][0]["annotations"]
        assert annotations["summary"] == f"Prometheus has no metrics from 127.0.0.1:{exporter} (up 0)"
        runbook = requests.get(annotations["runbook_url"], timeout=10)
        assert runbook.status_code == 200
        assert runbook.text.startswith("# ExporterDown")
    assert leftovers.programs(settings) == []
