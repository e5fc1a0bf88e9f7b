"""The kit's requests to its own ports, where the environment names a proxy."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from ops.desired import Served, desired_file, write_models
from ops.embed import embed_texts
from ops.exporter.families import Families
from ops.exporter.sources.torchserve import TorchServeMetrics
from ops.probe import Reference, probe
from ops.settings import Settings
from ops.top.command import scrape
from ops.torchserve.management import Management


@pytest.fixture
def server() -> Iterator[tuple[int, list[str]]]:
    """A stand-in for all of the kit's ports: its port, and the paths that it was asked for."""
    asked: list[str] = []
    answers = {
        "/models": b'{"models": [{"modelName": "m"}]}',
        "/metrics": b"",
        "/predictions/m": b'{"data": [{"embedding": [1.0]}]}',
    }

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answers[path])))
            self.end_headers()
            self.wfile.write(answers[path])

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_proxy_is_not_asked(server: tuple[int, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With http_proxy naming a port where nobody listens, each of the kit's own requests arrives."""
    port, asked = server
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(requests.exceptions.ProxyError):  # what any other request comes to
        requests.get(f"http://127.0.0.1:{port}/models", timeout=5)

    ports = Settings(var=tmp_path)
    settings = ports.model_copy(
        update=dict.fromkeys(("inference_port", "management_port", "metrics_port", "exporter_port"), port)
    )
    write_models(desired_file(settings), {"m": Served("m", "1", "m.mar", "0")})
    assert probe(settings, "m", Reference("text", (1.0,))).ok
    assert Management(settings).models() == ["m"]
    TorchServeMetrics(settings).fetch(Families())
    assert embed_texts(settings, ["text"], model="m").vectors.shape == (1, 1)
    scrape(settings)
    assert asked == ["/predictions/m", "/models", "/metrics", "/predictions/m", "/metrics"]


def test_no_module_goes_another_way() -> None:
    """Nothing below ops/ calls requests itself."""
    ops = Path(__file__).parents[2] / "ops"
    calls = ("requests.get(", "requests.post(", "requests.request(", "requests.Session(", "urlopen(")
    found = {file.name for file in ops.rglob("*.py") if any(call in file.read_text(encoding="utf-8") for call in calls)}
    assert found == {"loopback.py"}
