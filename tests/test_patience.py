"""Waits grow with the start time that was seen, and with nothing else."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from ops.torchserve.leftovers import SERVER_CLASS
from tests import patience
from tests.e2e.stack import Stack

# Has TorchServe's command line, and after half a second answers every request with the vector (1).
SLOW_SERVER = """
import http.server, sys, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = b'{"data": [{"embedding": [1.0]}]}'
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
time.sleep(0.5)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.fixture(autouse=True)
def _quick_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been seen yet, and plain starts take 0.1 s."""
    monkeypatch.setattr(patience, "PLAIN_START_S", 0.1)
    monkeypatch.setattr(patience, "_slowest_s", 0.1)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    yield Stack(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")


@contextmanager
def server(stack: Stack) -> Iterator[None]:
    words = [str(stack.settings.inference_port), SERVER_CLASS, str(stack.settings.etc / "config.properties")]
    with subprocess.Popen([sys.executable, "-c", SLOW_SERVER, *words], stderr=subprocess.DEVNULL) as process:
        yield
        process.kill()


def test_a_slow_start_stretches_waits(stack: Stack) -> None:
    """A recovery in which the server took at least five times a plain start makes waits that much longer."""
    assert patience.scaled(30) == 30
    with ThreadPoolExecutor() as pool:
        recovered = pool.submit(stack.recovered, np.array([1.0]), 60)
        time.sleep(0.2)  # it waits
        with server(stack):
            recovered.result()
    assert patience.scaled(30) >= 30 * 0.48 / 0.1  # a process's age is known to a hundredth of a second


def test_nothing_else_does(stack: Stack) -> None:
    """A server that ran before, or answers at once, or is one of two, says nothing about starts."""
    with server(stack):
        while not stack.servers():
            time.sleep(0.01)
        time.sleep(1)
        patience.measure(stack.servers(), 0.5)
        patience.measure(stack.servers() * 2, 60)
        patience.measure([], 60)
        assert patience.scaled(30) == 30
        patience.measure(stack.servers(), 60)
        assert patience.scaled(30) > 300
    assert stack.servers() == []
    with subprocess.Popen(["sleep", "60"]) as quick:
        before = patience.scaled(30)
        patience.measure([psutil.Process(quick.pid)], 60)
        quick.kill()
    assert patience.scaled(30) == before
