"""Through the gateway to the real service: the OpenAI client, the truth, a restart behind it, keys and models."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import openai
import orjson
import pytest
import requests

from tests.e2e.stack import TEXT, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.needs("haproxy")]

LARGE = ["one of many texts"] * 2000


@pytest.fixture
def url(stack: Stack) -> Iterator[str]:
    """Where clients ask; every key is forgotten afterwards."""
    yield stack.settings.gateway_url()
    (stack.settings.state / "gateway-keys").unlink(missing_ok=True)
    stack.embedkit("up")


def test_the_openai_client_through_the_gateway(stack: Stack, url: str) -> None:
    """One /v1 for all: the same vector as on TorchServe's own port, the handler's errors as they are."""
    with openai.OpenAI(base_url=url + "/v1", api_key="unused", max_retries=0) as client:
        found = client.embeddings.create(model="minilm", input=[TEXT, "another"])
        np.testing.assert_allclose(found.data[0].embedding, stack.embed(), atol=1e-6)
        assert "minilm" in [model.id for model in client.models.list()]
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="gpt", input=TEXT)
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="minilm", input=TEXT, dimensions=385)
        assert caught.value.param == "dimensions"
    for path in ("/v1/models", "/v1/models/minilm", "/predictions/minilm/1.0/v1/models"):
        assert requests.head(url + path, timeout=5).status_code == 200, path
    health = requests.get(url + "/healthz", timeout=5)
    assert (health.status_code, health.json()["models"]["minilm"]["healthy"]) == (200, True)


def test_slow_bodies_beside_the_truth(stack: Stack, url: str) -> None:
    """More slow bodies in chunks than the gateway waits for at once: a request beside them, and once they have gone a
    body of 1 MiB in chunks, get the right vector."""
    right = stack.embed()
    body = orjson.dumps({"input": TEXT, "model": "minilm"}).ljust(1 << 20)
    begun = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf0000\r\n"
    port = stack.settings.gateway_port
    with ExitStack() as closing:
        opened = [closing.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(100)]
        for one in opened:
            one.sendall(begun + body[:100_000])
        with openai.OpenAI(base_url=url + "/v1", api_key="unused", max_retries=0) as client:
            found = client.embeddings.create(model="minilm", input=TEXT)
        np.testing.assert_allclose(found.data[0].embedding, right, atol=1e-6)
        assert opened[-1].recv(16).startswith(b"HTTP/1.1 503 ")
    deadline = time.monotonic() + 5
    while True:  # until HAProxy has seen that they went
        parts = (body[at : at + 5000] for at in range(0, len(body), 5000))
        answer = requests.post(url + "/v1/embeddings", data=parts, timeout=20)
        if answer.status_code == 200:
            break
        assert time.monotonic() < deadline, answer.text
    np.testing.assert_allclose(answer.json()["data"][0]["embedding"], right, atol=1e-6)


def test_models_come_and_go_without_a_lost_request(stack: Stack, url: str) -> None:
    """While a second model is added and removed, every request for the first is answered; the list follows."""
    seen: Counter[object] = Counter()
    stop = threading.Event()

    def load() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                try:
                    seen[
                        session.post(
                            url + "/v1/embeddings", json={"input": TEXT, "model": "minilm"}, timeout=60
                        ).status_code
                    ] += 1
                except requests.RequestException as error:
                    seen[repr(error)] += 1

    thread = threading.Thread(target=load)
    thread.start()
    try:
        stack.embedkit("up", "tiny_bge")
        both = requests.post(url + "/v1/embeddings", json={"input": LARGE[:900], "model": "tiny_bge"}, timeout=60)
        large = requests.post(url + "/v1/models/tiny_bge/embeddings", json={"input": LARGE}, timeout=60)
        listed = requests.get(url + "/v1/models", timeout=5).json()
        stack.embedkit("down", "tiny_bge")
        after = requests.get(url + "/v1/models", timeout=5).json()
    finally:
        stop.set()
        thread.join()
    assert (both.status_code, both.json()["model"], large.status_code) == (200, "tiny_bge", 200)
    assert {"minilm", "tiny_bge"} <= {model["id"] for model in listed["data"]}
    assert "tiny_bge" not in {model["id"] for model in after["data"]}
    assert set(seen) == {200}


def test_a_restart_behind_it_is_a_slow_answer(stack: Stack, url: str) -> None:
    """TorchServe is killed under load: nobody sees an error, the vectors are right."""
    expected = stack.embed()
    stack.full_strength()
    seen: Counter[object] = Counter()
    stop = threading.Event()

    def load() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                try:
                    answer = session.post(url + "/v1/embeddings", json={"input": TEXT, "model": "minilm"}, timeout=60)
                    seen[answer.status_code] += 1
                    np.testing.assert_allclose(answer.json()["data"][0]["embedding"], expected, atol=1e-6)
                except (requests.RequestException, AssertionError, KeyError) as error:
                    seen[repr(error)] += 1

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    before = seen[200]
    os.kill(stack.jvm_pid(), signal.SIGKILL)
    time.sleep(1)
    while seen[200] < before + 100:
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    stack.full_strength()
    assert set(seen) == {200}


@pytest.mark.needs("ps")
def test_keys_and_a_killed_gateway(stack: Stack, url: str) -> None:
    """`embedkit key` works at once; kill -9: back within 10 s, TorchServe untouched; nothing shows the key."""
    jvm = stack.jvm_pid()
    key = orjson.loads(stack.embedkit("key", "add", "alice", "--json").stdout)["key"]
    use = {"Authorization": f"Bearer {key}"}
    assert requests.get(url + "/v1/models", timeout=5).status_code == 401
    body = {"input": TEXT, "model": "minilm"}
    assert requests.post(url + "/v1/embeddings", json=body, headers=use, timeout=30).status_code == 200
    assert "alice" in stack.embedkit("key", "list").stdout
    killed = _pid(stack)
    os.kill(killed, signal.SIGKILL)
    started = time.monotonic()
    stack.eventually(lambda: _pid(stack) != killed and _lists(url, use), 10)
    print(f"back after {time.monotonic() - started:.1f} s")
    assert stack.jvm_pid() == jvm
    stack.embedkit("key", "revoke", "alice")
    assert requests.get(url + "/v1/models", headers=use, timeout=5).status_code == 401
    logs, state = (
        b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        for folder in (stack.settings.logs, stack.settings.state)
    )
    assert key.encode() not in logs + state + subprocess.run(["ps", "axe"], capture_output=True, check=True).stdout


def test_the_first_key_closes_a_stopped_gateway(stack: Stack, url: str) -> None:
    """Made while the gateway is stopped, and whoever starts it: nobody comes in without the key, which does."""
    stack.supervisorctl("stop", "gateway")
    made = orjson.loads(stack.embedkit("key", "add", "app1", "--json").stdout)
    stack.supervisorctl("start", "gateway")
    assert requests.get(url + "/v1/models", timeout=5).status_code == 401
    assert _lists(url, {"Authorization": f"Bearer {made['key']}"})
    assert stack.status()["door"] == "closed"
    assert "closed, a key is needed" in stack.embedkit("status").stdout
    assert "closed to whoever has no key: 1 keys" in stack.embedkit("doctor", check=False).stdout
    scraped = requests.get(stack.settings.exporter_url("/metrics"), timeout=5).text
    assert "\ngateway_open 0.0\n" in scraped


def test_models_change_while_the_gateway_is_stopped(stack: Stack, url: str) -> None:
    """What was added and removed meanwhile is what it serves once it is started."""
    stack.embedkit("up", "tiny_bge")
    stack.supervisorctl("stop", "gateway")
    stack.embedkit("down", "tiny_bge")
    stack.supervisorctl("start", "gateway")
    assert [one["id"] for one in requests.get(url + "/v1/models", timeout=5).json()["data"]] == ["minilm"]


def _pid(stack: Stack) -> int:
    return int(stack.supervisorctl("pid", "gateway").stdout)


def _lists(url: str, use: dict[str, str]) -> bool:
    try:
        return requests.get(url + "/v1/models", headers=use, timeout=1).status_code == 200
    except requests.RequestException:
        return False
