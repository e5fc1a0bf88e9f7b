"""The load generator against a server whose behaviour is known.

A loaded machine only makes answers later: nothing here claims that something was fast.
"""

import socket

import orjson
import pytest

from archives.progress import SILENT, Progress
from ops.bench import load as load_module
from ops.bench.arrivals import poisson_arrivals
from ops.bench.client import Target
from ops.bench.figures import figures
from ops.bench.load import closed_loop, open_loop
from tests.ops.bench.stand_in import OK, REFUSED, serving

STALL_AT, STALL_S = 40, 1.0


def stalling(number: int) -> tuple[float, bytes]:
    """Quick, but for one request that takes a second."""
    return (STALL_S if number == STALL_AT else 0.0), OK


def texts(count: int) -> list[str]:
    return [f"text {number} 文本" for number in range(count)]


def test_a_stall_shows_in_the_open_loop_as_users_would_feel_it() -> None:
    """A server that stalls for a second makes everybody wait who comes in that second: the open loop's p99 says so."""
    arrivals = poisson_arrivals(60.0, 3.0, "stall")
    with serving(stalling) as server:
        found = open_loop(server.target, texts(len(arrivals)), arrivals, progress=SILENT)
    latencies = sorted(shot.done - shot.intended for shot in found.shots)
    assert figures(found).outcomes == {"200": len(arrivals)}
    assert latencies[round(0.99 * len(latencies)) - 1] > 0.9
    # Those who came in the first half of the stall waited for the second half: some thirty.
    assert sum(latency > 0.5 for latency in latencies) >= 20


def test_the_same_stall_hides_in_a_closed_loop() -> None:
    """One connection asks nothing while it waits: one slow answer, a quiet p95. Hence the open loop."""
    with serving(stalling) as server:
        found = figures(closed_loop(server.target, texts(180), connections=1, progress=SILENT))
    assert found.latency is not None
    assert found.latency.longest >= STALL_S
    assert found.latency.p95 < STALL_S


def test_every_text_is_sent_once_and_answers_are_kept() -> None:
    """Whatever the connections, the server sees each text once; every 10th answer is there afterwards, by its text."""
    wanted = texts(95)
    body = orjson.dumps({"data": [{"embedding": [0.5]}]})
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with serving(lambda _: (0.0, answer)) as server:
        found = closed_loop(server.target, wanted, connections=7, progress=SILENT, keep_every=10)
        seen = [orjson.loads(body)["input"] for body in server.bodies]
        assert server.connections == 7
    assert sorted(seen) == sorted(wanted)
    assert found.bodies == dict.fromkeys(range(0, 95, 10), body)


def test_statuses_are_counted_exactly() -> None:
    """Refusals (which close their connection), dropped connections and answers, each counted by what it is."""

    def mixed(number: int) -> tuple[float, bytes]:
        return 0.0, {0: REFUSED, 1: b""}.get(number % 5, OK)

    with serving(mixed) as server:
        found = figures(closed_loop(server.target, texts(100), connections=4, progress=SILENT))
    assert found.outcomes == {"200": 60, "503": 20, "lost": 20}
    assert found.examples == {"503": "full"}


def test_silence_ends_in_timeouts() -> None:
    """Requests never answered, and those that find no free connection for it, become timeouts; the phase ends."""
    with serving(lambda _: (0.0, None)) as server:
        found = open_loop(server.target, texts(6), [0.0] * 6, connections=2, timeout_s=0.5, progress=SILENT)
    assert figures(found).outcomes == {"timeout": 6}
    assert all(shot.done - shot.intended >= 0.5 for shot in found.shots)


def test_nobody_there() -> None:
    """Where nothing listens, every request is refused; nothing hangs, nothing is raised."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    found = figures(closed_loop(Target("127.0.0.1", port, "/"), texts(20), connections=3, progress=SILENT))
    assert found.outcomes == {"refused": 20}


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs, a line says how many came and how many of them were no vectors."""
    lines: list[str] = []

    class Recorder(Progress):
        def say(self, line: str) -> None:
            lines.append(line)

    monkeypatch.setattr(load_module, "REPORT_S", 0.2)
    with serving(lambda number: (0.05, REFUSED if number == 0 else OK)) as server:
        closed_loop(server.target, texts(12), connections=1, progress=Recorder(), label="trial")
    assert lines
    assert lines[0].startswith("trial: ")
    assert "of 12 texts" in lines[0]
    assert lines[-1].endswith("1 not answered with a vector")


def test_more_arrivals_than_texts_is_an_error() -> None:
    """Nothing is sent twice for want of texts."""
    with pytest.raises(ValueError, match="2 texts for 3 arrivals"):
        open_loop(Target("127.0.0.1", 1, "/"), texts(2), [0.0, 0.1, 0.2], progress=SILENT)


def test_target_of_a_url() -> None:
    """Host, port and path come from the URL; the request is whole and its length right."""
    target = Target.of("http://[::1]:9480/predictions/minilm", model="m")
    assert (target.host, target.port, target.path) == ("::1", 9480, "/predictions/minilm")
    head, _, body = target.encode("北京").partition(b"\r\n\r\n")
    assert orjson.loads(body) == {"input": "北京", "model": "m"}
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Host: [::1]:9480" in head


def test_an_encoding_is_asked_for() -> None:
    """A target's format is in every request; without one nothing is said of it."""
    _, _, body = Target.of("http://localhost", encoding_format="base64").encode("a").partition(b"\r\n\r\n")
    assert orjson.loads(body) == {"input": "a", "encoding_format": "base64"}
