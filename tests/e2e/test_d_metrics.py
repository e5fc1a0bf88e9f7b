"""The exporter beside the real service: counts exact, faults seen, and a scrape that nothing holds up."""

import os
import signal
import time
from collections import Counter
from statistics import median

import psutil
import pytest
import requests

from ops.canary import mark_of
from ops.top.figures import Scrape, parse
from ops.torchserve.management import Management
from tests.e2e.stack import TEXT, Stack
from tests.ops.prometheus.promtool import promtool

pytestmark = pytest.mark.e2e

REQUESTS = "embedding_request_duration_seconds_count"


def scrape(stack: Stack) -> Scrape:
    answer = requests.get(stack.settings.exporter_url("/metrics"), timeout=10)
    assert answer.status_code == 200
    return parse(answer.text, time.monotonic())


def by_code(scraped: Scrape) -> Counter[tuple[str, str]]:
    """(model, code) → requests."""
    found = {(dict(key)["model"], dict(key)["code"]): int(count) for key, count in scraped.of(REQUESTS).items()}
    return Counter({key: count for key, count in found.items() if count})


def scraped_once(stack: Stack, name: str, wanted: float, **labels: str) -> Scrape:
    """The first scrape in which that is so."""
    last: list[Scrape] = []

    def seen() -> bool:
        last[:] = [scrape(stack)]
        return last[0].total(name, **labels) == wanted

    stack.eventually(seen, 60)
    return last[0]


def test_requests_are_counted_exactly_by_code(stack: Stack) -> None:
    """200, 400, 404, 415 and 503, each as often as it was answered; the kit's own requests are not among them."""
    stack.full_strength()
    before, texts = by_code(scrape(stack)), scrape(stack).total("embedding_texts_total", model="minilm") or 0
    management = Management(stack.settings)
    for _ in range(7):
        assert stack.post({"input": [TEXT, "another"]}).status_code == 200
    for _ in range(3):
        assert stack.post({"input": 5}).status_code == 400
    assert stack.post({"input": TEXT}, "no-such-model").status_code == 404
    assert requests.post(stack.url(), data={"a": "b"}, timeout=10).status_code == 415
    assert requests.get(stack.settings.inference_url("/ping"), timeout=10).status_code == 200
    mark = mark_of(stack.settings)
    assert mark is not None
    forged = requests.post(f"{stack.url()}?{mark.query}x", json={"input": TEXT}, timeout=10)
    assert forged.status_code == 200
    stack.embedkit("status")
    management.scale("minilm", "1.0", 0)
    stack.eventually(lambda: not stack.worker_pids())
    try:
        assert [stack.post({"input": TEXT}).status_code for _ in range(2)] == [503, 503]
    finally:
        management.scale("minilm", "1.0", 2)
    after = scrape(stack)

    assert by_code(after) - before == Counter(
        {("minilm", "200"): 8, ("minilm", "400"): 3, ("other", "404"): 1, ("minilm", "415"): 1, ("minilm", "503"): 2}
    )
    assert after.total("embedding_texts_total", model="minilm") == texts + 15
    assert (after.total("embedding_padded_tokens_total") or 0) >= (after.total("embedding_tokens_total") or 1)
    stack.full_strength()


@pytest.mark.needs("promtool")
def test_promtool_accepts_a_real_scrape(stack: Stack) -> None:
    """`promtool check metrics` has nothing to say about what the exporter answers."""
    text = requests.get(stack.settings.exporter_url("/metrics"), timeout=10).text
    done = promtool("check", "metrics", stdin=text)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_killed_worker_is_seen_and_its_counts_stay(stack: Stack) -> None:
    """Fewer workers are ready, then others are; what the dead one counted is still there, its files are folded."""
    stack.full_strength()
    stack.embed()
    before = scrape(stack)
    victim = min(stack.worker_pids())
    os.kill(victim, signal.SIGKILL)
    scraped_once(stack, "torchserve_workers", 1, model="minilm", state="READY")
    after = scraped_once(stack, "torchserve_workers", 2, model="minilm", state="READY")
    starts = "torchserve_worker_start_time_seconds"

    assert str(victim) in {dict(key)["pid"] for key in before.of(starts)}
    assert str(victim) not in {dict(key)["pid"] for key in after.of(starts)}
    assert after.total("embedding_texts_total", model="minilm") == before.total("embedding_texts_total", model="minilm")
    assert list(stack.settings.telemetry.glob(f"*_{victim}.db")) == []
    stack.recovered(stack.embed(), 10)


def test_a_hung_server_costs_a_scrape_its_own_families(stack: Stack) -> None:
    """The JVM stopped (SIGSTOP): a scrape takes under a second (the middle one of three: the machine may be busy), with
    the rest in it; going on, all comes back.
    """
    expected = stack.embed()
    server = psutil.Process(stack.jvm_pid())
    server.suspend()
    try:
        took = []
        for _ in range(3):
            started = time.monotonic()
            found = scrape(stack)
            took.append(time.monotonic() - started)
        assert median(took) < 1
        assert max(took) < 2
        assert found.total("torchserve_up") == 0
        assert {dict(key)["source"] for key, up in found.of("embedkit_source_up").items() if not up} == {
            "torchserve_metrics",
            "management",
        }
        assert found.total("supervisor_process_state", name="torchserve", state="RUNNING") == 1
        assert found.of(REQUESTS)
    finally:
        server.resume()
    stack.recovered(expected, 20)
    scraped_once(stack, "torchserve_up", 1)


def test_a_damaged_file_of_a_worker_is_told(stack: Stack) -> None:
    """Rubbish among the workers' files: counted at each scrape, and everything else is there."""
    stack.embed()
    before = scrape(stack)
    rubbish = stack.settings.telemetry / "counter_4999999.db"
    rubbish.write_bytes(os.urandom(5000))
    try:
        after = scrape(stack)
    finally:
        rubbish.unlink()
    told, labels = "embedkit_source_errors_total", {"source": "workers", "kind": "damaged_file"}
    assert (after.total(told, **labels) or 0) > (before.total(told, **labels) or 0)
    assert after.total("embedkit_source_up", source="workers") == 1
    assert after.total("embedding_texts_total", model="minilm") == before.total("embedding_texts_total", model="minilm")


def test_the_canary_sings_and_is_no_traffic(stack: Stack) -> None:
    """The right vector, at the interval, and requests stay as they were."""
    before = scrape(stack)
    after = scraped_once(
        stack,
        "canary_probes_total",
        (before.total("canary_probes_total", model="minilm", outcome="ok") or 0) + 1,
        model="minilm",
        outcome="ok",
    )
    assert (after.total("canary_cosine", model="minilm") or 0) > 0.999
    assert after.total("canary_success", model="minilm") == 1
    assert by_code(after) == by_code(before)


def test_a_restarted_exporter_goes_on_where_it_was(stack: Stack) -> None:
    """SIGTERM ends it at once and cleanly; what came meanwhile is counted by the next one, and nothing twice."""
    scrape(stack)
    stack.supervisorctl("stop", "exporter")
    stopped = stack.supervisorctl("status", "exporter", check=False).stdout
    for _ in range(4):
        stack.embed()
    told = stack.embedkit("top", "--once", check=False)
    stack.supervisorctl("start", "exporter")

    assert "STOPPED" in stopped
    assert told.returncode == 1
    assert "supervisorctl start exporter" in told.stderr
    assert by_code(scrape(stack)) == Counter({("minilm", "200"): 4})
    assert "stopped" in (stack.settings.logs / "exporter.log").read_text()
