"""Bodies without a length, slow ones, and what they and slow readers may take of the gateway's memory."""

import http.client
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from ops.gateway.stage import Route, under_way
from tests.ops.gateway.running import MINILM, OTHER, Gateway, gateway, settings_for
from tests.ops.gateway.stand_in import StandIn, serving
from tests.programs import path

pytestmark = pytest.mark.needs("haproxy")

MIB = 1 << 20
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
URL = "/v1/embeddings"
JAVA = """
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.*;

class InChunks {
    public static void main(String[] given) throws Exception {
        byte[] body = System.in.readAllBytes();
        var request = HttpRequest.newBuilder(URI.create(given[0]))
            .POST(HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))).build();
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.print(answer.statusCode() + " " + answer.body());
    }
}
"""


@pytest.fixture(scope="module", params=[(MINILM,), (MINILM, OTHER)], ids=["one model", "two models"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, StandIn]]:
    """A gateway, and what stands behind it."""
    settings = settings_for(tmp_path_factory.mktemp("gw"))
    with serving(StandIn(settings.inference_port)) as behind, gateway(settings, request.param) as running:
        yield running, behind


def of_size(size: int) -> bytes:
    """A request's JSON of so many bytes, with the model behind the text."""
    body = orjson.dumps({"input": "", "model": "minilm"})
    return body.replace(b'""', b'"' + b"x" * (size - len(body)) + b'"', 1)


def parts(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def by_http_client(running: Gateway, body: bytes, size: int = 16 << 10) -> tuple[int, Any]:
    """Python's own client, which sends what it iterates over in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", running.settings.gateway_port, timeout=20)
    with suppress(BrokenPipeError, ConnectionResetError):  # it is refused before all of it was sent
        connection.request("POST", URL, iter(parts(body, size)), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, orjson.loads(answer.read())
    connection.close()
    return found


def by_requests(running: Gateway, body: bytes) -> tuple[int, Any]:
    """requests, with a generator."""
    answer = requests.post(running.url + URL, data=iter(parts(body, 5000)), timeout=20)
    return answer.status_code, answer.json()


def by_java(running: Gateway, body: bytes) -> tuple[int, Any]:
    """HttpClient with BodyPublishers.ofInputStream; it asks for HTTP/2 as well."""
    source = running.settings.var / "InChunks.java"
    source.write_text(JAVA)
    java = Path(path("javac")).resolve().with_name("java")
    command = [str(java), str(source), running.url + URL]
    said = subprocess.run(command, input=body, capture_output=True, timeout=60, check=True).stdout
    status, _, answer = said.partition(b" ")
    return int(status), orjson.loads(answer)


@pytest.mark.parametrize("send", [by_http_client, by_requests, pytest.param(by_java, marks=pytest.mark.needs("javac"))])
def test_a_mebibyte_in_chunks_is_taken(place: tuple[Gateway, StandIn], send: Any) -> None:
    """Real clients that send no length: a body of exactly 1 MiB arrives whole, with one model as with two."""
    running, behind = place
    for size in (70 << 10, MIB):
        body = of_size(size)
        status, answer = send(running, body)
        assert (status, answer.get("model")) == (200, "minilm"), answer
        assert behind.arrived[-1].body == body


def test_small_chunks_are_taken(place: tuple[Gateway, StandIn]) -> None:
    """Chunks of a byte, as some clients write them: it is the body that counts, not what is around it."""
    running, behind = place
    body = of_size(200 << 10)
    assert by_http_client(running, body, 1)[0] == 200
    assert behind.arrived[-1].body == body


@pytest.mark.parametrize("size", [MIB + 1, 3 * MIB])
def test_more_in_chunks_is_a_413(place: tuple[Gateway, StandIn], size: int) -> None:
    """One byte more is refused: the error names the limit and both ways out, and nothing arrives."""
    running, behind = place
    before = len(behind.arrived)
    status, answer = by_http_client(running, of_size(size))
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    for said in ("1024 KiB", "Content-Length", "fewer texts"):
        assert said in answer["error"]["message"]
    assert len(behind.arrived) == before


@contextmanager
def watched(running: Gateway) -> Iterator[list[int]]:
    """The gateway's resident bytes, looked at all the time; the largest are there when the block has ended."""
    seen = [0]
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen[0] = max(seen[0], sum(one.memory_info().rss for one in running.children()))
            stop.wait(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def bound(connections: int, large: int, routes: Sequence[Route] = (MINILM,)) -> int:
    """What docs/gateway.md says that these may take together."""
    return 64 * MIB + connections * (160 << 10) + under_way(routes) * 5 * MIB // 2 + 2 * large * 8 * MIB


def connected(stack: ExitStack, running: Gateway, number: int, **options: int) -> list[socket.socket]:
    opened = []
    for _ in range(number):
        one = stack.enter_context(socket.socket())
        for name, value in options.items():
            one.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        one.settimeout(20)
        one.connect(("127.0.0.1", running.settings.gateway_port))
        opened.append(one)
    return opened


def statuses(opened: Sequence[socket.socket]) -> Counter[int]:
    found: Counter[int] = Counter()
    for one in opened:
        answer = one.recv(4096)
        found[int(answer.split()[1])] += 1
        if b" 408 " in answer[:16]:
            assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
        if b" 503 " in answer[:16]:
            assert b"are under way" in answer
            assert b"retry-after: 1" in answer.lower()
    return found


@pytest.mark.parametrize("routes", [(MINILM,), (MINILM, OTHER)], ids=["one model", "two models"])
def test_slow_bodies_take_a_bounded_memory(tmp_path: Path, routes: Sequence[Route]) -> None:
    """Six hundred clients that each send most of a mebibyte, bit by bit, and never end: `gateway_large` of them are
    waited for until gateway_body_s, a 408; the others get a 503; the gateway stays below the documented memory, and
    requests beside them get the right answer in time all along."""
    routes = [replace(one, queue_size=8) for one in routes]
    settings = settings_for(tmp_path, gateway_large=4, gateway_body_s=6)
    took = []
    with (
        serving(StandIn(settings.inference_port)),
        gateway(settings, routes) as running,
        watched(running) as most,
        ExitStack() as stack,
    ):
        opened = connected(stack, running, 600)
        for one in opened:
            one.sendall(HEAD)
        bit = b"8000\r\n%b\r\n" % bytes(0x8000)
        for _ in range(30):
            for one in opened:
                with suppress(OSError):  # it was refused
                    one.sendall(bit, socket.MSG_DONTWAIT)
            started = time.monotonic()
            answer = running.post()
            took.append(time.monotonic() - started)
            assert (answer.status_code, answer.json()["data"][0]["embedding"]) == (200, [1.0, 0.0])
        assert sorted(took)[len(took) // 2] < 0.2
        assert max(took) < 1
        found = statuses(opened)
        deadline = time.monotonic() + 5
        while by_http_client(running, of_size(MIB))[0] != 200:  # the places are free again
            assert time.monotonic() < deadline
    assert found == {408: 4, 503: 600 - 4}
    assert most[0] < bound(600, 4, routes), most[0] / MIB


def test_slow_readers_take_a_bounded_memory(tmp_path: Path) -> None:
    """Clients that do not read their answers of 12 MiB: `gateway_large` of them have theirs, the others a 503, and the
    gateway stays below the documented memory; an answer of the usual size comes as before."""
    settings = settings_for(tmp_path, gateway_large=4)
    with (
        serving(StandIn(settings.inference_port, padding=12 * MIB)) as behind,
        gateway(settings) as running,
        watched(running) as most,
        ExitStack() as stack,
    ):
        opened = connected(stack, running, 150, SO_RCVBUF=4096)
        found: Counter[int] = Counter()
        for one in opened:
            one.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            found += statuses([one])
        behind.padding = 0
        assert running.post().status_code == 200
    assert found == {200: 4, 503: 150 - 4}
    assert most[0] < bound(150, 4), most[0] / MIB


def test_waiting_requests_take_a_bounded_memory(tmp_path: Path) -> None:
    """Four hundred clients with 60 KiB each wait while TorchServe is away: the gateway stays below the documented
    memory, and all of them are answered once it is back, though they are many more than its queue holds."""
    routes = (Route("minilm", 8, 20),)
    settings = settings_for(tmp_path, gateway_large=1)
    with gateway(settings, routes) as running, watched(running) as most, ThreadPoolExecutor(400) as pool:
        time.sleep(1.2)  # until the gateway has seen that nobody is there
        waiting = pool.map(lambda _: running.post(body={"input": "x" * (60 << 10)}).status_code, range(400))
        time.sleep(2.5)  # until they wait
        with serving(StandIn(settings.inference_port)):
            assert Counter(waiting) == {200: 400}
    assert most[0] < bound(400, 1, routes), most[0] / MIB


def test_more_than_wait_are_told_in_time(tmp_path: Path) -> None:
    """Where TorchServe stays away, those too that wait for a place to wait in get their 503 after gateway_wait_s."""
    settings = settings_for(tmp_path, gateway_wait_s=2)
    with gateway(settings, (Route("minilm", 8, 20),)) as running, ThreadPoolExecutor(200) as pool:
        time.sleep(1.2)  # until the gateway has seen that nobody is there
        started = time.monotonic()
        answers = list(pool.map(lambda _: running.post(), range(200)))
        assert time.monotonic() - started < 2 * 2 + 6
    assert {(one.status_code, one.json()["error"]["code"]) for one in answers} == {(503, "unavailable")}


def test_a_place_for_a_large_body_is_a_requests(tmp_path: Path) -> None:
    """It is free again when the request has ended, though its connection stays open, and the small ones need none."""
    settings = settings_for(tmp_path, gateway_large=1)
    large, small = of_size(100 << 10), of_size(100)
    with serving(StandIn(settings.inference_port)), gateway(settings) as running, ExitStack() as stack:
        sessions = [stack.enter_context(requests.Session()) for _ in range(4)]

        def send(session: requests.Session, body: bytes) -> int:
            return session.post(running.url + URL, data=body, timeout=20).status_code

        def send_until(status: int, session: requests.Session) -> None:
            deadline = time.monotonic() + 5  # HAProxy sees an end a moment after the client does
            while send(session, large) != status:
                assert time.monotonic() < deadline

        for session in sessions:
            send_until(200, session)
        (waits,) = connected(stack, running, 1)
        waits.sendall(HEAD + b"%x\r\n" % len(large) + large)
        send_until(503, sessions[0])
        assert send(sessions[1], small) == 200
        waits.close()
        send_until(200, sessions[1])
