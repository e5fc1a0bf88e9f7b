"""What goes wrong behind the gateway, or to it: who waits, who is refused, and that nothing is lost."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import psutil
import pytest
import requests

from ops.desired import commit
from ops.errors import OpsError
from ops.gateway import live
from ops.gateway.control import workers
from ops.gateway.keys import with_new, without, write_keys
from ops.gateway.program import refuse_faulty, routes_for
from ops.gateway.stage import Route
from tests.ops.gateway.running import MINILM, OTHER, Gateway, gateway, haproxy, served, settings_for
from tests.ops.gateway.stand_in import StandIn, serving

pytestmark = pytest.mark.needs("haproxy")

BODY = orjson.dumps({"input": "a", "model": "minilm"})
HEADERS = {"Content-Type": "application/json"}


def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """Requests that come while nothing listens, more than TorchServe's queue holds, are answered once it does."""
    settings = settings_for(tmp_path)
    with gateway(settings, (Route("minilm", 4, 20),)) as running, ThreadPoolExecutor(12) as pool:
        time.sleep(1.2)  # until the gateway has seen that nobody is there
        started = time.monotonic()
        waiting = [pool.submit(running.post) for _ in range(12)]
        time.sleep(0.5)
        with serving(StandIn(settings.inference_port)):
            statuses = Counter(one.result().status_code for one in waiting)
            assert time.monotonic() - started < 5
    assert statuses == {200: 12}


def test_a_server_that_stays_away_is_a_503_in_time(tmp_path: Path) -> None:
    """After gateway_wait_s the client is told, in our form, when to come back."""
    settings = settings_for(tmp_path, gateway_wait_s=1)
    with gateway(settings) as running:
        started = time.monotonic()
        answer = running.post()
        assert time.monotonic() - started < 4
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize("resets", [False, True], ids=["FIN", "RST"])
def test_a_lost_request_is_sent_again(tmp_path: Path, resets: bool) -> None:
    """A server that ends under a request, as the first or a later one of a connection, costs nobody an answer."""
    settings = settings_for(tmp_path)
    with serving(StandIn(settings.inference_port, resets=resets)) as behind, gateway(settings) as running:
        connection = http.client.HTTPConnection("127.0.0.1", settings.gateway_port, timeout=10)
        for _ in range(5):
            behind.loses = 2
            connection.request("POST", "/v1/embeddings", BODY, HEADERS)
            answer = connection.getresponse()
            assert (answer.status, answer.read()[:9]) == (200, b'{"object"')
        connection.close()
        assert [one.body for one in behind.arrived] == [BODY] * 15
        behind.loses = 100
        lost = running.post()
    assert (lost.status_code, lost.json()["error"]["code"]) == (502, "connection_lost")
    assert len(behind.arrived) == 15 + 4  # what ends the server is not sent for ever


def test_overload_is_refused_at_once(tmp_path: Path) -> None:
    """What TorchServe's queue would not hold gets a 503 with Retry-After in well under a second; the rest is served."""
    settings = settings_for(tmp_path)
    refused_after = []
    with (
        serving(StandIn(settings.inference_port, seconds=0.8)) as behind,
        gateway(settings, (Route("minilm", 4, 20),)) as running,
        ThreadPoolExecutor(16) as pool,
    ):

        def send() -> int:
            started = time.monotonic()
            answer = running.post()
            if answer.status_code == 503:
                refused_after.append(time.monotonic() - started)
                assert (answer.json()["error"]["code"], answer.headers["Retry-After"]) == ("overloaded", "1")
            return answer.status_code

        statuses = Counter(pool.map(lambda _: send(), range(16)))
        most = len(behind.arrived)
    assert set(statuses) == {200, 503}
    assert 4 <= statuses[200] == most <= 8  # four at once, and those that came in the same moment as the fifth
    assert max(refused_after) < 0.7


def test_a_change_of_models_loses_no_request(tmp_path: Path) -> None:
    """Under load from connections that stay open and from new ones, three reloads: every request is answered."""
    settings = settings_for(tmp_path)
    stop = threading.Event()
    seen: Counter[object] = Counter()

    def kept() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", settings.gateway_port, timeout=10)
        while not stop.is_set():
            try:
                connection.request("POST", "/v1/embeddings", BODY, HEADERS)
                answer = connection.getresponse()
                answer.read()
                seen[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[repr(error)] += 1
                connection.close()
            time.sleep(0.002)
        connection.close()

    def fresh() -> None:
        while not stop.is_set():
            try:
                seen[running.post().status_code] += 1
            except requests.RequestException as error:
                seen[repr(error)] += 1

    with serving(StandIn(settings.inference_port)), gateway(settings) as running:
        threads = [threading.Thread(target=work) for work in (kept, kept, kept, fresh, fresh)]
        for thread in threads:
            thread.start()
        for routes in ((MINILM, OTHER), (MINILM,), (MINILM, OTHER)):
            time.sleep(0.3)
            running.reload(routes)
            listed = requests.get(running.url + "/v1/models", timeout=5).json()["data"]
            assert [model["id"] for model in listed] == [route.model for route in routes]
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join()
    assert set(seen) == {200}
    assert seen[200] > 50


def test_the_first_key_closes_an_open_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once `embedkit key add` has returned nobody comes in without, not even on a connection that was open before; the
    key does, on the same one; later keys are taken while such a connection is still open, which keeps an old worker."""
    keys, alice = with_new({}, "alice")
    settings = settings_for(tmp_path, store=tmp_path / "store")
    one = served(settings, "m-a.mar", queue_size=64)
    commit(settings, one)
    body = {"input": "a", "model": "m"}
    use = {"Authorization": f"Bearer {alice}"}
    with (
        serving(StandIn(settings.inference_port)),
        gateway(settings, routes_for(settings, [one])) as running,
        requests.Session() as session,
        requests.Session() as other,
        requests.Session() as third,
    ):

        def post(by: requests.Session, **headers: str) -> int:
            return by.post(running.url + "/v1/embeddings", json=body, headers=headers, timeout=10).status_code

        assert [post(by) for by in (session, other, third)] == [200, 200, 200]
        before = workers(settings)
        assert live.change_keys(settings, keys)
        assert set(workers(settings)) > set(before)  # the old worker is still there, for those three
        assert post(session) == 401
        assert post(session, **use) == 200
        assert post(other, **use) == 200
        keys, bob = with_new(keys, "bob")
        assert live.change_keys(settings, without(keys, "alice"))
        assert post(third, Authorization=f"Bearer {bob}") == 200
        assert post(session, **use) == post(requests.Session()) == 401
        after = workers(settings)
        write_keys(settings, {})  # by hand, as it were, and then `embedkit up`
        live.follow_models(settings, [one])
        assert post(third, Authorization=f"Bearer {bob}") == 401
        assert set(workers(settings)) <= set(after)


def test_a_killed_master_takes_its_worker_along(tmp_path: Path) -> None:
    """After kill -9 no process of it is left and the port is free for the next one."""
    settings = settings_for(tmp_path)
    with serving(StandIn(settings.inference_port)):
        with gateway(settings) as running:
            children = running.children()
            assert children
            os.kill(running.process.pid, signal.SIGKILL)
            _, alive = psutil.wait_procs(children, timeout=5)
            assert alive == []
        with gateway(settings) as running:
            assert running.post().status_code == 200


@pytest.mark.needs("openssl")
def test_tls(tmp_path: Path, certificate: Path) -> None:
    """With a certificate the gateway speaks TLS 1.2 and newer, and nothing else."""
    settings = settings_for(tmp_path, gateway_tls=certificate)
    with serving(StandIn(settings.inference_port)), gateway(settings) as running:
        assert running.url.startswith("https://")
        assert running.post(verify=str(certificate)).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            running.post()  # nobody has signed it
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(running.url.replace("https", "http"), timeout=5)
        assert _handshake(running, "-tls1_2")
        assert not _handshake(running, "-tls1_1")


def _handshake(running: Gateway, version: str) -> bool:
    """Whether the gateway agrees to this version, offered with ciphers that any server knows."""
    address = f"127.0.0.1:{running.settings.gateway_port}"
    command = ["openssl", "s_client", "-connect", address, version, "-cipher", "DEFAULT:@SECLEVEL=0"]
    return subprocess.run(command, input=b"", capture_output=True, timeout=10, check=False).returncode == 0


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    """HAProxy's own words come before anything is written or started."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    settings = settings_for(tmp_path, gateway_tls=wrong)
    with pytest.raises(OpsError, match=r"HAProxy refuses.*wrong\.pem"):
        refuse_faulty(settings, [MINILM], haproxy())


def test_slow_large_bodies_leave_the_short_requests_places(tmp_path: Path) -> None:
    """More clients than the queue has places, each with a body over the buffer that never ends: short requests are
    answered as before, the surplus is refused at once, and TorchServe is never sent more than its queue holds."""
    settings = settings_for(tmp_path)
    with serving(StandIn(settings.inference_port)) as behind, gateway(settings, (Route("minilm", 8, 20),)) as running:
        begun = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 2_000_000
        opened = [socket.create_connection(("127.0.0.1", settings.gateway_port), timeout=10) for _ in range(20)]
        try:
            for one in opened:
                one.sendall(begun)
                time.sleep(0.05)  # of those that come in the same moment some wait
            for _ in range(20):
                started = time.monotonic()
                assert running.post().status_code == 200
                assert time.monotonic() - started < 0.5
            refused = 0
            for one in opened:
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    refused += one.recv(4096).startswith(b"HTTP/1.1 503 ")
            assert refused == 20 - 2
        finally:
            for one in opened:
                one.close()
        large = {"input": "x" * 2_000_000, "model": "minilm"}
        deadline = time.monotonic() + 5
        while running.post(body=large).status_code != 200:  # until HAProxy has seen that they went
            assert time.monotonic() < deadline
        assert [running.post(body=large).status_code for _ in range(5)] == [200] * 5
        assert len(behind.arrived) == 20 + 6


def test_idle_and_slow_clients_take_nobodys_place(tmp_path: Path) -> None:
    """Hundreds of silent connections and of bodies that do not come: another client is answered as before."""
    settings = settings_for(tmp_path, gateway_header_s=1, gateway_body_s=1)
    with serving(StandIn(settings.inference_port)), gateway(settings, (Route("minilm", 4, 20),)) as running:
        begun = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
        opened = [socket.create_connection(("127.0.0.1", settings.gateway_port), timeout=10) for _ in range(300)]
        try:
            for number, one in enumerate(opened):
                one.sendall(begun if number % 2 else b"POST /v1")
            for _ in range(20):
                started = time.monotonic()
                assert running.post().status_code == 200
                assert time.monotonic() - started < 0.5
            answer = opened[1].recv(4096)
            assert answer.startswith(b"HTTP/1.1 408 ")
        finally:
            for one in opened:
                one.close()
