"""One request, one answer: on TorchServe's port and through the gateway, with one model served and with several."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import orjson
import pytest
import requests

from handlers.sentence_handler import SentenceHandler
from tests.handlers.torchserve_wire import Sent, Worker, unpack
from tests.model_folders import make_bge_shaped
from tests.ops.gateway.running import MINILM, OTHER, gateway, settings_for
from tests.ops.gateway.stand_in import StandIn, serving

pytestmark = pytest.mark.needs("haproxy")


class Handled(StandIn):
    """In TorchServe's place, with the kit's own handler behind TorchServe's worker code."""

    def __init__(self, port: int, workers: dict[str, Worker]) -> None:
        super().__init__(port)
        self._workers, self._alone = workers, threading.Lock()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        _, _, model, *_rest = urlsplit(request.path).path.split("/")
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        sent = Sent([("body", request.headers.get("Content-Type", ""), body)], dict(request.headers.items()))
        with self._alone:
            said = self._workers[model].ask_one(sent)
        request.send_response(said.status)
        for name, value in {"Content-Type": said.content_type, **said.headers}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(said.body)))
        request.end_headers()
        request.wfile.write(said.body)


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Every address at which minilm is asked."""
    folder = make_bge_shaped(tmp_path_factory.mktemp("model") / "model")
    workers = {
        name: Worker(SentenceHandler(), unpack(tmp_path_factory.mktemp(name), folder, device="cpu"), name=name)
        for name in ("minilm", "other")
    }
    one, two = (settings_for(tmp_path_factory.mktemp(name)) for name in ("one", "two"))
    with (
        serving(Handled(one.inference_port, workers)),
        serving(Handled(two.inference_port, workers)),
        gateway(one, (MINILM,)) as alone,
        gateway(two, (MINILM, OTHER)) as beside,
    ):
        yield {
            "TorchServe's port": one.inference_url("/predictions/minilm"),
            "one model": alone.url + "/v1/embeddings",
            "one model, in the path": alone.url + "/v1/models/minilm/embeddings",
            "one model, native": alone.url + "/predictions/minilm",
            "two models": beside.url + "/v1/embeddings",
            "two models, in the path": beside.url + "/v1/models/minilm/embeddings",
            "two models, native": beside.url + "/predictions/minilm",
        }


def asked(**fields: object) -> bytes:
    return orjson.dumps({"input": "a", "model": "minilm", **fields})


NO_NAMES: tuple[object, ...] = (5, 5.5, True, ["minilm"], {})
INVALID, SERVED = "invalid_request_error", (200, None, None, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (asked(), SERVED),
        (asked(model="minilm/1.0"), SERVED),
        (rb'{"input": "a", "model": "minilm\/1.0"}', SERVED),
        (rb'{"input": "a\/b \\/ \u5317", "model": "\u006dinilm\/1.0"}', SERVED),
        (b'{"model": "other", "input": "a", "model": "minilm"}', SERVED),
        (b'{"input": "model", "model": "minilm"}', SERVED),
        (asked(model="BAAI/bge-large-zh"), (404, INVALID, "model", "model_not_found")),
        (rb'{"input": "a", "model": "BAAI\/bge-large-zh"}', (404, INVALID, "model", "model_not_found")),
        (asked(model="\u5317\u4eac"), (404, INVALID, "model", "model_not_found")),
        (rb'{"input": "a", "model": "\u5317\u4eac"}', (404, INVALID, "model", "model_not_found")),
        (asked(model=""), (404, INVALID, "model", "model_not_found")),
        (asked(model="minilm:latest"), (404, INVALID, "model", "model_not_found")),
        (asked(model="minilm/9.9"), (404, INVALID, "model", "model_not_found")),
        *((asked(model=wrong), (400, INVALID, "model", "invalid_type")) for wrong in NO_NAMES),
        (asked(dimensions=3.0), SERVED),
        (asked(input=[7.0, 8]), SERVED),
        (asked(dimensions=3.5), (400, INVALID, "dimensions", "invalid_value")),
        (asked(input=[7.5]), (400, INVALID, "input", "invalid_type")),
        (asked(dimensions=0), (400, INVALID, "dimensions", "invalid_value")),
        (asked(input=""), (400, INVALID, "input", "empty_input")),
        (asked(encoding_format="int8"), (400, INVALID, "encoding_format", "invalid_value")),
    ],
)
def test_every_way_gives_the_same_answer(
    ways: dict[str, str], body: bytes, expected: tuple[int, str | None, str | None, str | None]
) -> None:
    """Status, type, param and code are the same wherever a request is asked, and a name that is not served is named
    whole."""
    for way, url in ways.items():
        answer = requests.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=20)
        error = answer.json().get("error", {})
        found = (answer.status_code, error.get("type"), error.get("param"), error.get("code"))
        assert found == expected, (way, answer.text)
        if b"BAAI" in body:
            assert "BAAI/bge-large-zh" in error["message"], (way, answer.text)
        if answer.ok:
            assert answer.json()["model"] == "minilm", way
