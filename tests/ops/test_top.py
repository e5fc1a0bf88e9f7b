"""`embedkit top`: the figures between two scrapes, and what is seen of them in a real terminal."""

import http.server
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ops.settings import ROOT
from ops.top.figures import Scrape, figures, grown, parse, quantile

BOUNDS = (0.01, 0.02, 0.05, 0.1, float("inf"))


class Exporter:
    """Some of the exporter's metrics, under load."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "embedding_request_duration_seconds", "", ["model", "code"], registry=self.registry, buckets=BOUNDS
        )
        stage = Histogram("embedding_stage_duration_seconds", "", ["model", "device", "stage"], registry=self.registry)
        self.stage = stage
        self.texts = Counter("embedding_texts_total", "", ["model"], registry=self.registry)
        gauges: dict[str, tuple[dict[str, str], float]] = {
            "torchserve_up": ({}, 1),
            "torchserve_queue_length": ({"model": "m"}, 3),
            "torchserve_queue_capacity": ({"model": "m"}, 100),
            "torchserve_workers": ({"model": "m", "state": "READY"}, 1),
            "torchserve_workers_wanted": ({"model": "m"}, 2),
            "canary_success": ({"model": "m"}, 0),
            "canary_cosine": ({"model": "m"}, 0.5),
            "supervisor_process_state": ({"name": "torchserve", "state": "RUNNING"}, 1),
            "embedkit_source_up": ({"source": "nvml"}, 0),
        }
        for name, (labels, value) in gauges.items():
            gauge = Gauge(name, "", list(labels), registry=self.registry)
            (gauge.labels(**labels) if labels else gauge).set(value)

    def work(self, requests: int = 100) -> None:
        for _ in range(requests):
            self.seconds.labels(model="m", code="200").observe(0.015)
        self.seconds.labels(model="m", code="503").observe(0.001)
        self.stage.labels(model="m", device="cpu", stage="forward").observe(0.3)
        self.stage.labels(model="m", device="cpu", stage="decode").observe(0.1)
        self.texts.labels(model="m").inc(200)

    def text(self) -> str:
        return generate_latest(self.registry).decode()


def test_what_happened_between_two_scrapes() -> None:
    """Rates are of the interval, errors by status, percentiles of the new observations alone."""
    exporter = Exporter()
    exporter.seconds.labels(model="m", code="200").observe(30)
    before = parse(exporter.text(), 100.0)
    exporter.work()
    found = figures(before, parse(exporter.text(), 110.0), now=0.0)
    (model,) = found.models

    assert (model.model, model.requests_per_s, model.errors_per_s) == ("m", 10.1, {"503": 0.1})
    assert model.p50_s == pytest.approx(0.01 + 0.01 * (50.5 - 1) / 100)
    assert model.p99_s is not None
    assert 0.01 < model.p99_s <= 0.02
    assert model.texts_per_s == 20
    assert model.stage_share["forward"] == pytest.approx(0.75)
    assert (model.queue, model.queue_capacity) == (3, 100)
    assert (model.workers_ready, model.workers_wanted) == (1, 2)
    assert model.canary == "failing"
    assert found.sources_down == ("nvml",)
    assert [(one.program, one.state) for one in found.programs] == [("torchserve", "RUNNING")]


def test_a_reset_is_no_negative_rate() -> None:
    """A counter that began anew has grown by what it is now; nothing new has no percentile."""
    labels = frozenset({("model", "m")})
    before = Scrape(0.0, {"x_total": {labels: 100.0}})
    after = Scrape(1.0, {"x_total": {labels: 7.0}})
    assert grown(before, after, "x_total", model="m") == 7
    assert quantile(0.99, after, after, "x", model="m") is None


@pytest.fixture
def port() -> Iterator[int]:
    """A server of these metrics that works between scrapes."""
    exporter = Exporter()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            exporter.work(10)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(exporter.text().encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.needs("tmux")
def test_in_a_real_terminal(port: int, tmp_path: Path) -> None:
    """In tmux: the tables fit 120 columns, change by themselves, and ^C ends it with the shell as it was."""
    program = Path(sys.executable).parent / "embedkit"
    tmux = ["tmux", "-S", str(tmp_path / "tmux")]
    environ = {key: text for key, text in os.environ.items() if not key.startswith(("EMBEDKIT_", "TMUX"))}
    environ |= {"EMBEDKIT_EXPORTER_PORT": str(port), "EMBEDKIT_VAR": str(tmp_path / "var"), "TERM": "xterm-256color"}

    def screen() -> str:
        return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout

    def seen(pattern: str) -> str:
        deadline = time.monotonic() + 20
        while not re.search(pattern, shown := screen()):
            assert time.monotonic() < deadline, shown
            time.sleep(0.1)
        return shown

    start = [*tmux, "-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", "sh"]
    subprocess.run(start, check=True, env=environ, cwd=ROOT)
    try:
        subprocess.run([*tmux, "send-keys", f"{program} top --interval 0.3; echo status $?", "Enter"], check=True)
        shown = seen(r"(?m)^m +\d+\.\d .*503: ")
        for told in ("req/s", "p99", "3 of", "1 of", "failing", "forward", "torchserve  RUNNING", "nvml"):
            seen(re.escape(told))  # half drawn perhaps, or a cell in two lines
        assert max(map(len, shown.splitlines())) <= 120
        first = re.findall(r"last (\d+) s", shown)
        deadline = time.monotonic() + 20
        while re.findall(r"last (\d+) s", screen()) == first:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        subprocess.run([*tmux, "send-keys", "C-c"], check=True)
        assert "req/s" not in seen(r"status 0")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


def test_without_an_exporter_it_says_what_to_do(tmp_path: Path) -> None:
    """Exit status 1 and a sentence, for people and for programs."""
    environ = {**os.environ, "EMBEDKIT_EXPORTER_PORT": "1", "EMBEDKIT_VAR": str(tmp_path)}
    for flag in ("--once", "--json"):
        done = subprocess.run(
            [Path(sys.executable).parent / "embedkit", "top", flag],
            env=environ, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        assert "supervisorctl start exporter" in done.stderr.replace("\n", " ")
