"""/healthz: what the last canaries say."""

import re
import socket
from collections.abc import Iterator

import orjson
import pytest
import requests
from prometheus_client import CollectorRegistry, make_wsgi_app

from ops.exporter.health import Health, judge, oldest_s, with_health
from ops.exporter.server import answering
from ops.probe import Probe
from ops.prober import Tried

VERSION = re.compile(r"\d+\.\d+\.\d+|Python|WSGI|HAProxy|TorchServe")
GOOD = Probe("minilm", 0.01, 0.99999)
REFUSED = Probe("minilm", 0.01, None, "HTTP 500: TorchServe 0.12.0 on /srv: torch 2.13.0 is not compatible", "refused")
BAD = Probe("minilm", 0.01, 0.5, "a wrong vector came back", "wrong_vector")


@pytest.mark.parametrize(
    ("tried", "error"),
    [
        (Tried(GOOD, 990), ""),
        (Tried(GOOD, 1001), ""),  # the clock was set back
        (Tried(BAD, 999), "a wrong vector came back"),
        (Tried(REFUSED, 999), "HTTP 500"),
        (Tried(GOOD, 900), "not tried for 100 s"),
        (None, "not tried yet"),
    ],
)
def test_a_model_is_healthy_by_a_recent_right_vector(tried: Tried | None, error: str) -> None:
    """A wrong answer, an old one and none are unhealthy, each with its reason; the server's words stay inside."""
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
    with answering(0, with_health(make_wsgi_app(CollectorRegistry()), lambda: health[0])) as port:
        yield f"http://127.0.0.1:{port}", health


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


def test_it_names_no_version(url: tuple[str, list[Health]]) -> None:
    """No answer, not even to a request that cannot be read, has a Server header or a release: the path is open."""
    place, health = url
    for state in (Health({}), judge({"minilm": Tried(BAD, 999)}, 15, 1000)):
        health[0] = state
        answer = requests.get(place + "/healthz", timeout=5)
        assert "Server" not in answer.headers
        assert VERSION.search(answer.text) is None, answer.text
    with socket.create_connection(("127.0.0.1", int(place.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(b"GET /" + b"x" * (1 << 16) + b" HTTP/1.1\r\n\r\n")
        said = connection.recv(4096).decode()
    assert "414" in said.partition("\r\n")[0]
    assert "Server:" not in said
