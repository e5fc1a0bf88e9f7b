"""A real Prometheus with the kit's rules beside the real service: it shows what clients see and what happens."""

import contextlib
import math
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from ops.exporter.buckets import FACTOR
from ops.grafana.boards import BOARDS
from ops.grafana.preview import Range, draw
from ops.prometheus.alerts import ALERTS
from ops.prometheus.recording import RECORDINGS
from ops.settings import Settings
from tests.e2e.load import Call, Overload, embed_call, send, texts
from tests.e2e.stack import Stack, free_ports
from tests.ops.prometheus.promql import without_variables
from tests.ops.prometheus.server import Server, answers, quick, running, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.needs("haproxy", "prometheus")]

COUNT = "embedding_request_duration_seconds_count"
BUCKET = "embedding_request_duration_seconds_bucket"
# What a machine without an NVIDIA driver has no metrics of.
OF_A_GPU = re.compile(r"\bgpu_")


@pytest.fixture(scope="module")
def prometheus(deployment: Stack, first_up: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Prometheus looking at the deployment every second."""
    assert first_up
    settings = Settings(
        var=tmp_path_factory.mktemp("prometheus"),
        exporter_port=deployment.settings.exporter_port,
        gateway_metrics_port=deployment.settings.gateway_metrics_port,
        prometheus_port=free_ports(1)[0],
        alertmanager="off",
        grafana="off",
        scrape_interval_s=1,
    )
    with running(settings, quick):
        server = Server(settings.local_url("prometheus"))
        wait_for(lambda: server.query('up{job="embedkit"} == 1'), 20, "the exporter is scraped")
        yield server


def after_two_scrapes() -> float:
    """Now, with everything up to now in Prometheus: what is logged is read and scraped within this time."""
    time.sleep(2.5)
    return time.time()


def firing_now(prometheus: Server) -> set[str]:
    """Alerts about the present. A budget may burn for long after a test that killed something, and rightly."""
    return {name for name in prometheus.firing() if not name.endswith("BudgetBurn")}


def test_counts_and_quantiles_are_what_clients_see(stack: Stack, prometheus: Server) -> None:
    """Under load: requests exact by model and status, and each quantile within the width of a bucket, 10 %."""
    stack.full_strength()
    before = after_two_scrapes()
    port = stack.settings.inference_port
    good = [embed_call("minilm", texts(12, 30, seed)) for seed in range(120)]
    bad = [Call("/predictions/minilm", b'{"input": 7}')] * 11
    unknown = [Call("/predictions/no_such_model", b'{"input": "a"}')] * 5
    seen = send(port, [*good[:60], *bad, *unknown, *good[60:]], connections=3)
    at = after_two_scrapes()
    ago = f"{at - before:.0f}s"
    counted = {
        (labels["model"], int(labels["code"])): value
        for labels, value in prometheus.query(f"{COUNT} - ({COUNT} offset {ago} or 0 * {COUNT})", at)
        if value
    }
    names = {"/predictions/minilm": "minilm", "/predictions/no_such_model": "other"}
    assert counted == {(names[path], status): number for (path, status), number in seen.statuses.items()}
    assert set(counted) == {("minilm", 200), ("minilm", 400), ("other", 404)}

    ours = f'{BUCKET}{{model="minilm", code="200"}}'
    for share in (0.5, 0.95, 0.99):
        shown = prometheus.value(f"histogram_quantile({share}, {ours} - {ours} offset {ago})", at)
        client = seen.quantile(share)
        print(f"p{share * 100:.0f}: client {client * 1000:.1f} ms, Prometheus {shown * 1000:.1f} ms")
        assert client / FACTOR <= shown <= client * FACTOR


def test_every_expression_shows_something(stack: Stack, prometheus: Server, tmp_path: Path) -> None:
    """Each rule and panel is understood by Prometheus, and after load has series, in range; but for absent GPUs."""
    assert stack.embed().size
    through = requests.post(
        stack.settings.gateway_url("/v1/embeddings"), json={"model": "minilm", "input": "a"}, timeout=60
    )
    assert through.status_code == 200, through.text
    at = after_two_scrapes()
    empty = []
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                expr = without_variables(query.expr)
                if not prometheus.query(expr, at) and not OF_A_GPU.search(expr) and "ALERTS" not in expr:
                    empty.append(f"{panel.title}: {expr}")
    assert empty == []
    for rule in RECORDINGS:
        assert prometheus.query(rule.record, at), rule.record
    for alert in ALERTS:
        prometheus.query(alert.expr, at)
    sane = {
        "instance_model:embedding_requests_failed:ratio_rate5m": (0, 0),
        "instance_model:torchserve_workers_ready:sum": (1, 16),
        "instance_model:torchserve_queue_length:max1m_ratio": (0, 1),
        'instance_model:embedding_request_duration_seconds:p99_rate5m{model="minilm"}': (0.001, 10),
        "1 - rate(embedding_tokens_total[1m]) / rate(embedding_padded_tokens_total[1m])": (0, 0.99),
        "canary_cosine": (0.999, 1.00001),
        "host_memory_available_bytes / host_memory_total_bytes": (0.01, 1),
    }
    for expr, (low, high) in sane.items():
        values = [value for _, value in prometheus.query(expr, at) if not math.isnan(value)]  # NaN: no traffic
        assert values, expr
        assert all(low <= value <= high for value in values), (expr, values)
    assert "EmbeddingErrorBudgetBurn" not in prometheus.firing()
    picture = tmp_path / "service.png"
    draw(BOARDS[0], Range(prometheus.url, at - 30, at), picture)
    assert picture.stat().st_size > 20_000


def test_a_kill_shows_as_a_restart(stack: Stack, prometheus: Server) -> None:
    """kill -9 of the JVM: one restart more, workers that started anew, and a gap in torchserve_up."""
    restarts = 'changes(supervisor_process_start_time_seconds{name="torchserve"}[1h])'
    expected, killed_at = stack.embed(), time.time()
    before = prometheus.value(restarts)
    os.kill(stack.jvm_pid(), signal.SIGKILL)
    stack.recovered(expected, 45)
    workers = len(stack.full_strength())
    wait_for(lambda: prometheus.value(restarts) == before + 1, 10, "the restart is counted")
    at = after_two_scrapes()
    assert prometheus.value(f"min_over_time(torchserve_up[{at - killed_at:.0f}s])") == 0
    assert prometheus.value("torchserve_up") == 1
    assert prometheus.value('instance_model:torchserve_worker_starts:count15m{model="minilm"}') >= 2 * workers
    assert prometheus.value('torchserve_workers{model="minilm", state="READY"}') == workers


def test_a_hung_server_does_not_hang_a_scrape(stack: Stack, prometheus: Server) -> None:
    """While the JVM is stopped (SIGSTOP) a scrape takes less than a second and says that TorchServe does not answer."""
    expected, server = stack.embed(), stack.jvm_pid()
    os.kill(server, signal.SIGSTOP)
    try:
        for _ in range(3):
            started = time.monotonic()
            shown = requests.get(stack.settings.local_url("exporter") + "/metrics", timeout=5).text
            assert time.monotonic() - started < 1
            assert re.search(r"^torchserve_up 0\.0$", shown, re.MULTILINE)
            assert re.search(r"^host_cpus ", shown, re.MULTILINE)
        at = after_two_scrapes()
        assert prometheus.value('max_over_time(scrape_duration_seconds{job="embedkit"}[4s])', at) < 1
        assert prometheus.value('embedkit_source_up{source="host"}') == 1
    finally:
        with contextlib.suppress(ProcessLookupError):  # the watchdog may have ended it
            os.kill(server, signal.SIGCONT)
    stack.recovered(expected, 60)


def test_an_outage_fires_the_right_alerts(stack: Stack, prometheus: Server) -> None:
    """With TorchServe stopped, what says so fires and nothing else does, every panel is still understood; it ends."""
    expected = stack.embed()
    wait_for(lambda: not firing_now(prometheus), 30, "no alert fires while all is well")
    stack.supervisorctl("stop", "torchserve")
    wanted = {"TorchServeDown", "CanaryFailing", "GatewayCanaryFailing", "SourceDown"}
    wait_for(lambda: wanted <= prometheus.firing(), 40, f"{wanted} fire")
    assert firing_now(prometheus) == wanted
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                prometheus.query(without_variables(query.expr))
    assert prometheus.value("torchserve_up") == 0
    assert prometheus.value('canary_success{model="minilm"}') == 0
    stack.supervisorctl("start", "torchserve")
    stack.recovered(expected, 45)
    wait_for(lambda: not wanted & prometheus.firing(), 40, "the alerts end")


def test_up_runs_prometheus_beside_the_service(stack: Stack) -> None:
    """Switched on, `up` starts a Prometheus that sees the exporter, and switched off stops it; TorchServe goes on."""
    server, url = stack.jvm_pid(), f"http://127.0.0.1:{stack.environ['EMBEDKIT_PROMETHEUS_PORT']}"
    stack.environ["EMBEDKIT_PROMETHEUS"] = "on"
    try:
        said = stack.embedkit("up").stdout
        assert re.search(r"^prometheus +runs, pid \d+ +prometheus \d+", said, re.MULTILINE)
        wait_for(
            lambda: answers(url + "/-/ready") and Server(url).query('up{job="embedkit"} == 1'), 30, "it is scraped"
        )
    finally:
        stack.environ["EMBEDKIT_PROMETHEUS"] = "off"
    stack.embedkit("up")
    assert "prometheus" not in stack.supervisorctl("status").stdout
    assert not answers(url)
    assert stack.jvm_pid() == server


def test_overload_through_the_gateway_is_an_alert(stack: Stack, prometheus: Server) -> None:
    """More clients than the gateway lets in: it refuses, TorchServe's log knows no 503, and the alerts for a full
    queue, for refused users and for the error budget fire; the first two end with the overload.
    """
    stack.recovered(stack.embed(), 10)
    wanted = {"QueueSaturated", "RequestsRefused"}
    wait_for(lambda: not wanted & prometheus.firing(), 30, "no alert of overload fires before")
    log = stack.settings.logs / "access.log"
    begins = log.stat().st_size
    counted = 'sum(embedding_request_duration_seconds_count{model="minilm", code="503"})'
    before = prometheus.value(counted, after_two_scrapes())
    fired: set[str] = set()

    def overload() -> bool:
        fired.update(prometheus.firing())
        return {*wanted, "EmbeddingErrorBudgetBurn"} <= fired

    with Overload(stack) as clients:
        wait_for(overload, 40, f"{wanted} and EmbeddingErrorBudgetBurn fire")
    refused = clients.seen.statuses["/v1/models/minilm/embeddings", 503]
    assert refused > 100
    assert prometheus.value(counted, after_two_scrapes()) - before == refused
    with log.open() as lines:
        lines.seek(begins)
        assert not re.search(r'" 503 \d+$', lines.read(), re.MULTILINE)
    wait_for(lambda: not wanted & prometheus.firing(), 40, "the alerts end")
    assert prometheus.value('gateway_canary_success{model="minilm"}') == 1
