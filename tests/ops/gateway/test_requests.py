"""Requests through a real HAProxy: routes, models, keys, limits, and nothing else behind it."""

import contextlib
import gzip
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
import requests

from ops.canary import token_of
from ops.exporter.families import Families
from ops.exporter.source import AbsentError, SourceError
from ops.exporter.sources.gateway import GatewaySource
from ops.gateway.control import Admission, admissions, give_keys, key_use, workers
from ops.gateway.keys import digest_of, with_new, without
from ops.gateway.knock import knock
from ops.probe import Reference, probe_gateway
from tests.ops.gateway.running import MINILM, OTHER, Gateway, gateway, settings_for
from tests.ops.gateway.stand_in import StandIn, serving

pytestmark = pytest.mark.needs("haproxy")

JSON = {"Content-Type": "application/json"}


@dataclass
class Place:
    """A gateway and what stands behind it."""

    gateway: Gateway
    behind: StandIn

    def arrived(self) -> list[str]:
        """The paths that came through since it was last asked."""
        paths = [one.path for one in self.behind.arrived]
        self.behind.arrived.clear()
        return paths


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One model, no keys."""
    settings = settings_for(tmp_path_factory.mktemp("gw"), gateway_body_mb=2, gateway_header_s=1)
    with serving(StandIn(settings.inference_port)) as behind, gateway(settings) as running:
        yield Place(running, behind)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two models, no keys."""
    settings = settings_for(tmp_path_factory.mktemp("gw"))
    with serving(StandIn(settings.inference_port)) as behind, gateway(settings, (MINILM, OTHER)) as running:
        yield Place(running, behind)


def error_of(answer: requests.Response) -> dict[str, Any]:
    """The error in our form, with a request id beside it."""
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"]
    found: dict[str, Any] = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    below = "requests" if answer.status_code == 429 else "invalid_request_error"
    assert found["type"] == (below if answer.status_code < 500 else "server_error")
    return found


def raw(port: int, request: bytes, seconds: float = 5) -> bytes:
    """What comes back for these bytes until the other side closes or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as client:
        client.sendall(request)
        received = b""
        try:
            while part := client.recv(65536):
                received += part
                if b"\r\n\r\n" in received and b"content-length: 0" not in received.lower():
                    client.settimeout(0.2)
        except TimeoutError:
            pass
        return received


def test_every_route_reaches_its_model(one: Place) -> None:
    """The OpenAI paths are rewritten to TorchServe's, the native ones go as they are, without their query."""
    for path in ("/v1/embeddings", "/v1/models/minilm/embeddings", "/predictions/minilm"):
        assert one.gateway.post(path).status_code == 200
    assert one.gateway.post("/predictions/minilm/1.0?a=b").status_code == 200
    assert one.gateway.post("/predictions/minilm/1.0/v1/embeddings").status_code == 200
    assert one.arrived() == [
        *["/predictions/minilm"] * 3,
        "/predictions/minilm/1.0",
        "/predictions/minilm/1.0/v1/embeddings",
    ]


def test_the_list_of_models(two: Place) -> None:
    """OpenAI's list and its entries, answered without TorchServe; an unknown one is a 404."""
    with openai.OpenAI(base_url=two.gateway.url + "/v1", api_key="unused", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["minilm", "other"]
        assert client.models.retrieve("other").id == "other"
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("nonsense")
    assert caught.value.code == "model_not_found"
    assert "minilm, other" in str(caught.value)
    entry = requests.get(two.gateway.url + "/v1/models/other", timeout=5)
    assert two.gateway.logged(entry.headers["X-Request-Id"])["model"] == "other"
    assert two.arrived() == []


@pytest.mark.parametrize("name", ["gpt", "bge-m3", "BAAI/bge-large-zh", "bge-m3:latest", "text.v1.5", "x" * 90, "a b"])
def test_a_model_that_is_not_served_is_named_whole(one: Place, two: Place, name: str) -> None:
    """In the path as in the body, with dots, slashes and colons, percent-encoded or not: 404 and OpenAI's code."""
    for place in (one, two):
        with (
            openai.OpenAI(base_url=place.gateway.url + "/v1", api_key="unused", max_retries=0) as client,
            pytest.raises(openai.NotFoundError, match=f"Model {name} is not served") as caught,
        ):
            client.models.retrieve(name)
        assert caught.value.code == "model_not_found"
        plain = requests.get(f"{place.gateway.url}/v1/models/{name}", timeout=5)
        for answer in (plain, place.gateway.post(f"/v1/models/{name}/embeddings")):
            error = error_of(answer)
            assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model"), answer.text
            assert f"Model {name} is not served here" in error["message"]
        native = place.gateway.post(f"/predictions/{name.replace('/', '%2F')}")
        assert (native.status_code, error_of(native)["code"]) == (404, "model_not_found")
        assert place.arrived() == []


# What must not be served, as it would stand in the first line.
STRANGE = (
    "/",
    "/ping",
    "/models",
    "/models/minilm",
    "/metrics",
    "/api-description",
    "/invocations",
    "/explanations/minilm",
    "/v2/models/minilm/infer",
    "/v1/models/minilm:predict",
    "/predictions",
    "/predictions/",
    "//predictions/minilm",
    "/predictions//minilm",
    "/predictions/../models",
    "/predictions/minilm/..",
    "/predictions/minilm/../../models",
    "/predictions/minilm/.../x",
    "/predictions/minilm/1.0/../../../models",
    "/predictions/minilm/1.0/v1/../../../models",
    "/predictions/%2e%2e/models",
    "/predictions/minilm%2f..%2f..%2fmodels",
    "/predictions/minilm;/../models",
    "/predictions/minilm/1.0/anything",
    "/v1/models/minilm/../../../models",
    "/v1/models/..",
    "/v1/models/minilm/embeddings/../../../../models",
    "/v1/embeddings/",
    "/V1/embeddings",
    "/healthz/../metrics",
    "/healthz/",
    "http://x/models",
    "http://x/models/minilm",
    "http://x/predictions/../models",
)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_else_is_reached(one: Place, method: str) -> None:
    """Every other path, however it is spelled, ends at the gateway with a 404 in our form: of the path, or of the model
    that it names."""
    for target in STRANGE:
        answer = raw(
            one.gateway.settings.gateway_port,
            f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode(),
        )
        assert answer.startswith(b"HTTP/1.1 404 "), (target, answer)
        code = orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]
        assert code in ("unknown_path", "model_not_found"), target
    assert one.arrived() == []


def test_an_absolute_target_that_is_served_goes_on_as_a_path(one: Place) -> None:
    """A client of a proxy names the host in the first line; TorchServe gets our path and its own address alone."""
    request = b"POST http://evil:8081/v1/embeddings HTTP/1.1\r\nHost: %b\r\nContent-Length: 2\r\n\r\n{}"
    assert raw(one.gateway.settings.gateway_port, request % b"evil:8081").startswith(b"HTTP/1.1 200")
    assert one.behind.arrived[-1].headers["host"] == f"127.0.0.1:{one.behind.port}"
    assert one.arrived() == ["/predictions/minilm"]
    assert raw(one.gateway.settings.gateway_port, request % b"good").startswith(b"HTTP/1.1 400")
    assert one.arrived() == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET /models HTTP/1.1\r\nHost: x\r\n\r\n",
            id="both lengths",
        ),
        pytest.param(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 30\r\n\r\n{}"
            b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n",
            id="two lengths",
        ),
        pytest.param(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\n{}"
            b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n",
            id="odd coding",
        ),
        pytest.param(
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            id="h2c",
        ),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), id="HTTP/2 from the start"),
    ],
)
def test_no_request_is_smuggled(one: Place, request_bytes: bytes) -> None:
    """Bytes that could be read in two ways never make a request of their own behind the gateway."""
    answer = raw(one.gateway.settings.gateway_port, request_bytes)
    assert b"101 " not in answer.partition(b"\r\n")[0]
    assert set(one.arrived()) <= {"/predictions/minilm"}


EMBEDDING = ("/v1/embeddings", "/v1/models/minilm/embeddings", "/predictions/minilm", "/predictions/minilm/1.0")
READING = ("/v1/models", "/v1/models/minilm", "/predictions/minilm/1.0/v1/models", "/healthz", "/door")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/embeddings", "POST"),
        ("DELETE", "/predictions/minilm", "POST"),
        *(("PUT", path, "POST") for path in EMBEDDING),
        *((method, path, "GET, HEAD") for method in ("POST", "PUT", "DELETE", "OPTIONS") for path in READING),
    ],
)
def test_another_method_is_a_405(one: Place, method: str, path: str, allowed: str) -> None:
    """It names those that are taken, and nothing arrives."""
    answer = requests.request(method, one.gateway.url + path, timeout=5)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert error_of(answer)["code"] == "method_not_allowed"
    assert one.arrived() == []


@pytest.mark.parametrize("kilobytes", [1, 100, 900])
@pytest.mark.parametrize("model", ["minilm", "other", "other/1.0"])
def test_the_body_names_the_model(two: Place, model: str, kilobytes: int) -> None:
    """With several models, `model` is found behind an `input` of up to a megabyte, as the OpenAI client sends it."""
    body = orjson.dumps({"input": "x" * (kilobytes << 10), "model": model})
    answer = requests.post(two.gateway.url + "/v1/embeddings", data=body, headers=JSON, timeout=20)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model.partition("/")[0]
    assert two.behind.arrived[-1].body == body


def test_a_large_body_is_told_the_sure_way(two: Place) -> None:
    """Over a megabyte `model` is not looked for: the error names the path that takes it, and that path does."""
    body = orjson.dumps({"input": "x" * (3 << 20), "model": "other"})
    two.arrived()
    refused = requests.post(two.gateway.url + "/v1/embeddings", data=body, headers=JSON, timeout=20)
    assert refused.status_code == 413
    assert "/v1/models/<model>/embeddings" in error_of(refused)["message"]
    assert two.arrived() == []
    taken = requests.post(two.gateway.url + "/v1/models/other/embeddings", data=body, headers=JSON, timeout=20)
    assert (taken.status_code, taken.json()["model"]) == (200, "other")
    assert len(two.behind.arrived[-1].body) == len(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"input": "a"}',
        b"not json",
        b"",
        b'{"x": {"model": "minilm"}}',
        gzip.compress(b'{"model": "minilm"}', mtime=0),
    ],
)
def test_without_a_model_none_is_guessed(two: Place, body: bytes) -> None:
    """Several models and none named, or not readably: a 400 that says how."""
    two.arrived()
    answer = requests.post(two.gateway.url + "/v1/embeddings", data=body, headers=JSON, timeout=5)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "missing_model")
    assert two.arrived() == []


@pytest.mark.parametrize("name", ["gpt", 'a"b', "a'b", "%s%[src]", "minilm2", "MINILM", "x" * 300])
def test_an_unknown_model_is_a_404(two: Place, name: str) -> None:
    """In the body or in the path, it is named in the answer, with those that are served."""
    two.arrived()
    answer = two.gateway.post(body={"input": "a", "model": name})
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert name[:64] in error["message"]
    assert "served: minilm, other" in error["message"]
    assert two.arrived() == []


def test_a_body_over_the_limit_is_a_413(one: Place) -> None:
    """It is refused by its length, before it is read."""
    answer = requests.post(one.gateway.url + "/v1/embeddings", data=b"x" * (3 << 20), headers=JSON, timeout=5)
    assert (answer.status_code, error_of(answer)["code"]) == (413, "body_too_large")
    assert one.arrived() == []


def in_chunks(port: int, path: str, chunks: Sequence[bytes], method: str = "POST") -> tuple[int, Any]:
    """Send a body in these chunks while reading; returns status and JSON of what comes back."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:

        def send() -> None:
            with contextlib.suppress(OSError):  # it is refused before all of it was sent
                client.sendall(head.encode() + coded)

        sender = threading.Thread(target=send)
        sender.start()
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(65536):
                received += part
        sender.join()
    answered, _, body = received.partition(b"\r\n\r\n")
    return int(answered.split()[1]), orjson.loads(body)


@pytest.mark.parametrize(
    ("size", "method", "path"),
    [
        (8 << 10, "POST", "/v1/embeddings"),
        (200, "POST", "/v1/embeddings"),
        (8 << 10, "GET", "/predictions/minilm/1.0/v1/models"),
    ],
)
def test_chunks_do_not_get_round_the_limit(one: Place, size: int, method: str, path: str) -> None:
    """A body without a length, whose chunks are each small, is a 413 that names the way out; nothing arrives."""
    one.arrived()
    chunks = [b"x" * size] * ((9 << 20) // size)
    status, answer = in_chunks(one.gateway.settings.gateway_port, path, chunks, method)
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    assert "Content-Length" in answer["error"]["message"]
    assert one.arrived() == []


def test_too_many_headers_are_refused(one: Place) -> None:
    """A flood of headers ends at the gateway."""
    answer = requests.get(one.gateway.url + "/v1/models", headers={"X-Flood": "x" * 20_000}, timeout=5)
    assert (answer.status_code, error_of(answer)["code"]) == (431, "headers_too_large")
    many = "".join(f"X-{number}: y\r\n" for number in range(300))
    assert raw(
        one.gateway.settings.gateway_port, f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{many}\r\n".encode()
    ).startswith(b"HTTP/1.1 400")


def test_a_slow_client_is_let_go(one: Place) -> None:
    """Headers that do not come within gateway_header_s end the connection: silence, half a line, half of them."""
    address = ("127.0.0.1", one.gateway.settings.gateway_port)
    opened = [socket.create_connection(address, timeout=5) for _ in range(3)]
    begun = (b"", b"POST /v1/emb", b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n")
    for client, part in zip(opened, begun, strict=True):
        client.sendall(part)
    for client in opened:
        with client:
            received = client.recv(4096)
            assert received == b"" or received.startswith(b"HTTP/1.1 408 ")
    assert one.arrived() == []


def test_the_request_id_goes_through(one: Place) -> None:
    """A sane one is kept, forwarded and returned; none or a strange one is replaced."""
    kept = one.gateway.post(headers={"X-Request-Id": "abc-1.2_3"})
    assert kept.headers["X-Request-Id"] == one.behind.arrived[-1].headers["x-request-id"] == "abc-1.2_3"
    for strange in ("a b", "x" * 200, '"', 'sane, "not', None):
        made = one.gateway.post(headers={"X-Request-Id": strange} if strange else {})
        assert len(made.headers["X-Request-Id"]) == 36
        assert made.headers["X-Request-Id"] == one.behind.arrived[-1].headers["x-request-id"]
    assert one.gateway.logged(made.headers["X-Request-Id"])["status"] == 200
    one.arrived()


@pytest.mark.parametrize(
    ("own", "status", "code"),
    [
        (400, 400, "bad_request"),
        (404, 404, "model_not_found"),
        (405, 405, "method_not_allowed"),
        (413, 413, "body_too_large"),
        (500, 500, "internal_error"),
        (503, 503, "overloaded"),
        (507, 503, "out_of_memory"),
    ],
)
def test_torchserves_own_errors_get_our_form(one: Place, own: int, status: int, code: str) -> None:
    """What TorchServe says by itself is put into the form that clients know."""
    one.behind.refuses = own
    try:
        answer = one.gateway.post()
    finally:
        one.behind.refuses = None
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert (status != 503) or answer.headers["Retry-After"] == "1"
    one.arrived()


def test_health_without_an_exporter_is_bad(one: Place) -> None:
    """Nobody to ask is no health, and says so."""
    answer = requests.get(one.gateway.url + "/healthz", timeout=5)
    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    assert "exporter" in answer.json()["reason"]


def test_who_has_no_key_learns_no_version(tmp_path: Path) -> None:
    """Whatever is answered without a key, refusals included, has no Server header; with one it has none either."""
    keys, alice = with_new({}, "alice")
    settings = settings_for(tmp_path)
    with (
        serving(StandIn(settings.inference_port)),
        serving(StandIn(settings.exporter_port)) as exporter,
        gateway(settings, keys=keys) as running,
    ):
        for path in ("/healthz", "/v1/models", "/predictions/minilm", "/nothing"):
            answer = requests.get(running.url + path, timeout=5)
            assert "Server" not in answer.headers, path
            assert "Via" not in answer.headers, path
            assert re.search(r"\d+\.\d+\.\d+|HAProxy|Python|TorchServe", answer.text) is None, answer.text
        assert exporter.arrived[-1].path == "/healthz"
        answered = running.post(headers={"Authorization": f"Bearer {alice}"})
        assert (answered.status_code, "Server" in answered.headers) == (200, False)
        assert b"\nserver:" not in raw(settings.gateway_port, b"no HTTP at all\r\n\r\n").lower()


def test_a_list_has_no_body_for_head(one: Place) -> None:
    """HEAD answers as GET does, without a body."""
    for path in ("/v1/models", "/v1/models/minilm"):
        answer = raw(one.gateway.settings.gateway_port, f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n"), answer


@pytest.mark.parametrize("later_s", [0, 0.2])
def test_who_closes_its_sending_side_is_told_so(one: Place, two: Place, later_s: float) -> None:
    """A client that says by FIN that all is sent, as `nc -N` does, is told to keep its side open: not that it spoke no
    HTTP."""
    body = orjson.dumps({"input": "a", "model": "minilm"})
    request = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    for place in (one, two):
        place.behind.seconds = 0.5  # the answer never comes first
        try:
            with socket.create_connection(("127.0.0.1", place.gateway.settings.gateway_port), timeout=10) as client:
                client.sendall(request)
                time.sleep(later_s)
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: client.recv(65536), b""))
        finally:
            place.behind.seconds = 0.0
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"sending side was closed" in answer, answer
        place.arrived()


def test_haproxys_own_metrics(one: Place) -> None:
    """On a port of their own, and nothing else there."""
    url = one.gateway.settings.local_url("gateway_metrics")
    shown = requests.get(url + "/metrics", timeout=5).text
    assert 'haproxy_frontend_http_responses_total{proxy="gateway",code="2xx"}' in shown
    assert requests.get(url + "/other", timeout=5).status_code == 404


def test_keys_open_the_gateway_and_go_no_further(tmp_path: Path) -> None:
    """401 without; a key's name is in log and counts, the key nowhere: log, ps, TorchServe, configuration."""
    keys, alice = with_new({}, "alice")
    settings = settings_for(tmp_path)
    with serving(StandIn(settings.inference_port)) as behind, gateway(settings, keys=keys) as running:
        for wrong in (None, "", "Bearer ", "Bearer nonsense", alice, f"Basic {alice}", f"Bearer {alice} x"):
            answer = running.post(headers={"Authorization": wrong} if wrong is not None else {})
            assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key"), wrong
        assert behind.arrived == []
        good = running.post(headers={"Authorization": f"bearer {alice}", "X-Embedkit-Canary": "x", "Upgrade": "h2c"})
        assert good.status_code == 200
        assert {"authorization", "x-embedkit-canary", "upgrade"} & set(behind.arrived[0].headers) == set()
        assert requests.get(running.url + "/healthz", timeout=5).status_code == 503  # the truth, without a key
        assert running.logged(good.headers["X-Request-Id"])["key"] == "alice"
        assert (key_use(settings)["alice"].requests, key_use(settings)["alice"].refused) == (1, 0)
        families = Families()
        GatewaySource(settings).fetch(families)
        counted = {family.name: family.samples for family in families}
        assert [one.value for one in counted["gateway_up"]] == [1]
        assert [(one.labels, one.value) for one in counted["gateway_key_requests"]] == [({"key": "alice"}, 1)]
        shown = running.log + " ".join(running.process.args) + (settings.etc / "haproxy.cfg").read_text()  # type: ignore[arg-type]
        assert alice not in shown
        assert alice.encode() not in b"".join(one.body for one in behind.arrived)
    with pytest.raises(SourceError, match=r"gw\.sock"):
        GatewaySource(settings).fetch(Families())
    with pytest.raises(AbsentError):
        GatewaySource(settings_for(tmp_path / "other")).fetch(Families())


def test_keys_change_without_a_reload(tmp_path: Path) -> None:
    """A new key is taken and a revoked one refused at once, even on a connection that is open already."""
    keys, alice = with_new({}, "alice")
    settings = settings_for(tmp_path / "a ü")
    with serving(StandIn(settings.inference_port)), gateway(settings, keys=keys) as running:
        before = workers(settings)
        session = requests.Session()
        use = {"Authorization": f"Bearer {alice}"}
        assert session.get(running.url + "/v1/models", headers=use, timeout=5).status_code == 200
        keys, bob = with_new(keys, "bob")
        give_keys(settings, keys)
        bobs = {"Authorization": f"Bearer {bob}"}
        assert session.get(running.url + "/v1/models", headers=bobs, timeout=5).status_code == 200
        give_keys(settings, without(keys, "alice"))
        assert session.get(running.url + "/v1/models", headers=use, timeout=5).status_code == 401
        assert session.get(running.url + "/v1/models", headers=bobs, timeout=5).status_code == 200
        give_keys(settings, {})
        assert session.get(running.url + "/v1/models", headers=bobs, timeout=5).status_code == 401
        assert workers(settings) == before
        session.close()


def test_the_openai_client_knows_the_errors(tmp_path: Path) -> None:
    """Its own exception for each refusal: 401, 404, 429 with Retry-After, 503."""
    keys, alice = with_new({}, "alice")
    keys, bob = with_new(keys, "bob")
    settings = settings_for(tmp_path, gateway_key_rate=1)
    with serving(StandIn(settings.inference_port)) as behind, gateway(settings, (MINILM, OTHER), keys) as running:

        def embed(key: str, model: str = "minilm") -> str:
            with openai.OpenAI(base_url=running.url + "/v1", api_key=key, max_retries=0) as client:
                return client.embeddings.create(model=model, input="a", encoding_format="float").model

        with pytest.raises(openai.AuthenticationError):
            embed("nonsense")
        with pytest.raises(openai.NotFoundError):
            embed(bob, "gpt")
        behind.refuses = 503
        with pytest.raises(openai.InternalServerError) as unavailable:
            embed(bob)
        assert unavailable.value.response.headers["Retry-After"] == "1"
        behind.refuses = None
        with pytest.raises(openai.RateLimitError) as limited:
            _ = [embed(alice) for _ in range(100)]
        assert limited.value.response.headers["Retry-After"] == "1"
        assert limited.value.code == "rate_limit_exceeded"
        assert embed(bob, "other") == "other"
        assert key_use(settings)["alice"].refused == 1


@pytest.mark.parametrize("closed", [False, True])
def test_the_canary_has_a_key_of_its_own(tmp_path: Path, closed: bool) -> None:
    """It comes in with `var/state/canary-key`, over a limit that it has used up, and is nobody's request: not in the
    log, not with the keys' counts, marked for the worker. An open gateway stays open, a closed one closed, and what
    keys come and go does not matter to it.
    """
    keys = {"alice": digest_of("ek_alice")} if closed else None
    settings = settings_for(tmp_path, gateway_key_rate=1)
    reference = Reference("a", (1.0, 0.0))
    with serving(StandIn(settings.inference_port)) as behind, gateway(settings, keys=keys) as running:
        for _ in range(15):
            tried = probe_gateway(settings, "minilm", reference, 5)
            assert tried.ok, tried
        assert {(one.path, one.marked) for one in behind.arrived} == {("/predictions/minilm", True)}
        assert {one.headers["x-embedkit-canary"] for one in behind.arrived} == {token_of(settings)}
        assert all("authorization" not in one.headers for one in behind.arrived)
        assert key_use(settings) == {}
        assert '"path"' not in running.log
        assert knock(settings) == ("closed" if closed else "open")
        give_keys(settings, {"bob": digest_of("ek_bob")})
        assert probe_gateway(settings, "minilm", reference, 5).ok
        assert running.post(headers={"Authorization": "Bearer ek_bob", "X-Embedkit-Canary": "x"}).status_code == 200
        assert "x-embedkit-canary" not in behind.arrived[-1].headers
        assert running.post(headers={"Authorization": f"Bearer {token_of(settings)}"}).status_code == 401
    key = settings.state / "canary-key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text() not in (settings.etc / "haproxy.cfg").read_text()


def test_the_places_are_told(one: Place) -> None:
    """How many requests may be let in, of either kind, and how many are."""
    one.behind.seconds = 1.0
    try:
        with ThreadPoolExecutor(3) as clients:
            waiting = [clients.submit(one.gateway.post) for _ in range(3)]
            deadline = time.monotonic() + 5
            while Admission("minilm", "whole", 3, 48) not in admissions(one.gateway.settings):
                assert time.monotonic() < deadline, admissions(one.gateway.settings)
                time.sleep(0.02)
            assert [answer.result().status_code for answer in waiting] == [200] * 3
    finally:
        one.behind.seconds = 0.0
    assert set(admissions(one.gateway.settings)) == {
        Admission("minilm", "whole", 0, 48),
        Admission("minilm", "large", 0, 16),
    }
