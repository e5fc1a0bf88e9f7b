"""/healthz: what the last canaries say."""

from collections.abc import Iterator

import orjson
import pytest
import requests
from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server

from ops.exporter.health import Health, judge, oldest_s, with_health
from ops.probe import Probe
from ops.prober import Tried

GOOD = Probe("minilm", 0.01, 0.99999)
BAD = Probe("minilm", 0.01, 0.5, "a wrong vector came back", "wrong_vector")


@pytest.mark.parametrize(
    ("tried", "error"),
    [
        (Tried(GOOD, 990), ""),
        (Tried(GOOD, 1001), ""),  # the clock was set back
        (Tried(BAD, 999), "a wrong vector came back"),
        (Tried(GOOD, 900), "not tried for 100 s"),
        (None, "not tried yet"),
    ],
)
def test_a_model_is_healthy_by_a_recent_right_vector(tried: Tried | None, error: str) -> None:
    """A wrong answer, an old one and none are unhealthy, each with its reason."""
    found = judge({"minilm": tried}, 15, now=1000)
    assert found.ok is (error == "")
    assert found.models["minilm"]["error"] == error


def test_one_bad_model_is_enough() -> None:
    """All served models have to be well, and there has to be one."""
    assert judge({"a": Tried(GOOD, 999), "b": Tried(GOOD, 999)}, 15, 1000).ok
    assert not judge({"a": Tried(GOOD, 999), "b": Tried(BAD, 999)}, 15, 1000).ok
    assert judge({}, 15, 1000).reason == "no model is served"
    assert oldest_s(15) == 40


@pytest.fixture
def url() -> Iterator[tuple[str, list[Health]]]:
    """An exporter's server: its URL, and what its health is."""
    health = [Health({})]
    registry = CollectorRegistry()
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    server.set_app(with_health(make_wsgi_app(registry), lambda: health[0]))
    yield f"http://127.0.0.1:{server.server_port}", health
    server.shutdown()
    server.server_close()
    thread.join()


def test_it_stands_beside_the_metrics(url: tuple[str, list[Health]]) -> None:
    """200 or 503 with the models as JSON; every other path has the metrics as before."""
    place, health = url
    health[0] = judge({"minilm": Tried(GOOD, 995)}, 15, 1000)
    well = requests.get(place + "/healthz", timeout=5)
    assert well.status_code == 200
    assert well.json() == {
        "status": "healthy",
        "models": {"minilm": {"healthy": True, "error": "", "cosine": 0.99999, "age_s": 5.0}},
    }
    assert requests.head(place + "/healthz", timeout=5).status_code == 200
    health[0] = Health({}, "no model is served")
    ill = requests.get(place + "/healthz", timeout=5)
    assert (ill.status_code, orjson.loads(ill.content)["reason"]) == (503, "no model is served")
    assert requests.get(place + "/metrics", timeout=5).status_code == 200
