"""Bad clients at the gateway, good ones beside them."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest

from ops.bench.figures import percentile
from ops.settings import ROOT, Settings
from tests.chaos import site
from tests.chaos.abuse import KINDS
from tests.chaos.ledger import Entry
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.load import CLIENTS, Overload
from tests.e2e.stack import Stack, free_ports
from tests.ops.prometheus.server import Server, quick, running, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

SECONDS = 20.0
TIMES = 2.0
BODY_S = 30.0  # that one 20 MB body may take to be done with

TOLD = {
    "slow loris": "slow loris, 500 clients",
    "idle": "1,000 idle connections",
    "large bodies": "bodies of 20 MB, one after another",
    "header flood": "header flood, 50 clients with 2,000 headers",
    "slow large bodies": "bodies over the buffer that never end, 300 clients",
}


def p99(entries: Sequence[Entry]) -> float:
    return percentile(sorted(one.done - one.sent for one in entries), 0.99)


@pytest.mark.parametrize(("order", "kind"), list(enumerate(KINDS, 40)))
def test_good_clients_do_not_notice(stack: Stack, record: Callable[[Row], None], order: int, kind: str) -> None:
    """Good clients' p99 stays within twice what it was before, and each of them is answered."""
    path = "/v1/models/minilm/embeddings"
    trial = Trial(stack, record, url=stack.settings.gateway_url(path), profiles=("short",))
    command = [sys.executable, "-m", "tests.chaos.abuse", kind]
    with trial:
        quiet_from = time.monotonic()
        time.sleep(SECONDS)
        trial.strike(lambda: None)
        port = str(stack.settings.gateway_port)
        done = subprocess.run(
            [*command, port, str(SECONDS), path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SECONDS + BODY_S,
            check=True,
        )
        ended = time.monotonic()
    rights = trial.load.rights()
    before = p99([one for one in rights if quiet_from <= one.sent and one.done <= trial.struck])
    during = p99([one for one in rights if trial.struck <= one.sent <= ended])
    after = site.footprint(stack)
    seen = ", ".join(f"{what}: {count}" for what, count in sorted(orjson.loads(done.stdout).items()))
    trial.row(
        order,
        f"{TOLD[kind]}, at the gateway",
        f"good clients' p99 within {TIMES:.0f}×, none fails",
        met=during <= TIMES * before and not trial.toll.failed and after.programs == trial.before.programs,
        note=f"p99 {before * 1000:.0f} → {during * 1000:.0f} ms ({during / before:.2f}×); they saw {seen or 'nothing'}",
    )


@pytest.mark.needs("haproxy", "prometheus")
def test_overload_is_seen(stack: Stack, record: Callable[[Row], None], tmp_path: Path) -> None:
    """More clients than the gateway lets in, with the rules loaded in a real Prometheus: whoever is refused is told at
    once, the alerts fire while it lasts and end with it, and TorchServe goes on."""
    settings = Settings(
        var=tmp_path,
        exporter_port=stack.settings.exporter_port,
        prometheus_port=free_ports(1)[0],
        alertmanager="off",
        grafana="off",
        scrape_interval_s=1,
    )
    wanted = {"QueueSaturated", "RequestsRefused"}
    fired: dict[str, float] = {}

    def all_fired() -> bool:
        for name in server.firing():
            fired.setdefault(name, time.monotonic() - trial.struck)
        return wanted <= set(fired)

    trial = Trial(stack, record, connections=0)
    with trial, running(settings, quick):
        server = Server(settings.local_url("prometheus"))
        wait_for(lambda: server.query('up{job="embedkit"} == 1') and not wanted & server.firing(), 30, "all is well")
        clients = Overload(stack)
        trial.strike(clients.__enter__)
        try:
            wait_for(all_fired, 60, f"{wanted} fire")
        finally:
            clients.__exit__()
        over = time.monotonic()
        wait_for(lambda: not wanted & server.firing(), 60, "the alerts end")
        ended = time.monotonic() - over
    by_status = Counter({status: count for (_, status), count in clients.seen.statuses.items()})
    after = site.footprint(stack)
    trial.row(
        46,
        f"overload through the gateway, {CLIENTS} clients, rules loaded",
        "refused with 503 alone, alerts fire and end, no program ends",
        met=set(by_status) == {200, 503} and not clients.seen.broken and after.programs == trial.before.programs,
        note=", ".join(f"{name} after {fired[name]:.0f} s" for name in sorted(wanted))
        + f" (without `for`), ended {ended:.0f} s after the load; they saw "
        + ", ".join(f"{status}: {count}" for status, count in sorted(by_status.items())),
    )
