"""From lines of the gateway's log to requests as their users saw them, each counted once."""

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from ops.canary import forwarded_query, token_of
from ops.desired import Served, desired_file, write_models
from ops.exporter.access_log import Request
from ops.exporter.families import Families
from ops.exporter.gateway_log import GatewayLineReader
from ops.exporter.sources.access_log import AccessLogSource
from ops.settings import Settings
from tests.ops.exporter.reading import value

COUNT = "embedding_request_duration_seconds_count"


def line(**changed: Any) -> bytes:
    entry = {"key": "alice", "model": "minilm", "method": "POST", "status": 200, "ms": 21, "end": "--", "marked": True}
    return orjson.dumps({"ts": 1795618190.173, **entry, **changed})


def read(*lines: bytes) -> list[Request]:
    reader = GatewayLineReader()
    reader.allow(["minilm"])
    return list(reader.read(lines))


@pytest.mark.parametrize(
    ("changed", "model", "code"),
    [
        ({}, "minilm", 200),
        ({"status": 503}, "minilm", 503),
        ({"status": 429, "model": "-"}, "other", 429),
        ({"model": "gone"}, "other", 200),
        # whoever asked has gone away: HAProxy's statuses for it say nothing of the service
        ({"status": 503, "end": "CQ"}, "minilm", 499),
        ({"status": -1, "end": "CH"}, "minilm", 499),
        ({"status": 200, "end": "CD"}, "minilm", 499),
        ({"status": 408, "end": "cR"}, "minilm", 408),
    ],
)
def test_what_its_user_saw(changed: dict[str, Any], model: str, code: int) -> None:
    """The gateway's status and time, under a served model's name; a client that went away is a 499."""
    assert read(line(**changed)) == [Request(model, code, None, 0.021)]


@pytest.mark.parametrize("one", [line(method="GET"), line(method="HEAD"), b"[NOTICE] (1) : New worker (2) forked"])
def test_what_is_no_request_for_an_embedding(one: bytes) -> None:
    """Lists and health, and what HAProxy says of itself."""
    assert read(one) == []


def test_rubbish_is_told() -> None:
    """A line cut short is counted as unreadable, and those around it are read."""
    reader = GatewayLineReader()
    found = list(reader.read([line()[:-9], line(), b'{"marked":true,"method":"POST"}']))
    assert (len(found), reader.unreadable) == (1, 2)


def test_each_request_is_counted_at_its_own_door(tmp_path: Path) -> None:
    """Three at the gateway, one of them refused there, and one past it: four, though TorchServe's log has three; an
    earlier version's lines, which TorchServe's log has too, are left to it. Over a rotation as supervisord makes it.
    """
    settings = Settings(var=tmp_path)
    write_models(desired_file(settings), {"minilm": Served("minilm", "1.0", "m.mar", "0")})
    settings.logs.mkdir(parents=True)
    access, gateway = settings.logs / "access.log", settings.logs / "gateway.log"
    source = AccessLogSource(settings)

    def served(query: str = "") -> str:
        return f'{time.time() * 1000:.0f} /127.0.0.1:4 "POST /predictions/minilm{query} HTTP/1.1" 200 9\n'

    marked = served(f"?{forwarded_query(token_of(settings))}")
    earlier = orjson.loads(line())
    del earlier["marked"]
    access.write_text(marked + served())
    gateway.write_bytes(orjson.dumps(earlier) + b"\n" + line() + b"\n" + line(status=503, ms=0) + b"\n")
    source.fetch(Families())
    gateway.rename(settings.logs / "gateway.log.1")
    gateway.write_bytes(line() + b"\n")
    with access.open("a") as file:
        file.write(marked)
    families = Families()
    source.fetch(families)
    source.close()
    counted = {code: value(families, COUNT, model="minilm", code=code) for code in ("200", "503", "500")}
    assert counted == {"200": 3, "503": 1, "500": 0}
