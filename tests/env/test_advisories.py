"""Accepted advisories, and the audit with the real uv against an OSV service on this machine."""

import datetime
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from env import audit
from env.advisories import Reported, load, stale, unlisted

TODAY = datetime.date(2026, 11, 25)
LOCKED = {"transformers": {"4.48.3"}, "torch": {"2.13.0", "2.10.0"}, "torchserve": {"0.12.0"}}


def test_every_entry_is_of_what_is_locked() -> None:
    """The file is whole: each id once, and each entry was read against the very versions in the locks."""
    accepted = load()
    assert len({(one.id, one.package) for one in accepted}) == len(accepted)
    assert stale(accepted, audit.locked(), min(one.read for one in accepted)) == []
    assert all(one.read < one.review_by and one.about and one.reason for one in accepted)


def test_what_has_changed_is_to_be_read_again() -> None:
    """Another version in a lock, a package that left it, and a day that has passed are named."""
    one = replace(load()[0], review_by=TODAY)
    assert stale([one], LOCKED, TODAY) == []
    raised = stale([one], LOCKED | {"transformers": {"4.49.0"}}, TODAY)
    assert raised == [f"{one.id}: transformers 4.49.0 is locked, it was read against others: read it again"]
    assert "in no lock" in stale([one], {}, TODAY)[0]
    assert "was to be read again" in stale([one], LOCKED, TODAY + datetime.timedelta(days=1))[0]


def test_an_advisory_is_known_by_any_of_its_names() -> None:
    """GHSA or CVE: one of the names is enough, for the same package."""
    one = load()[0]
    reported = Reported(frozenset({"GHSA-x", one.id}), one.package, "4.48.3", "text")
    assert unlisted([reported], [one]) == []
    assert len(unlisted([replace(reported, package="numpy")], [one])) == 1


@pytest.fixture
def osv() -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """(URL, package → its advisory) of a service that speaks OSV's protocol."""
    known: dict[str, dict[str, Any]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            found = [known.get(one["package"]["name"]) for one in asked]
            self.answer({"results": [{"vulns": [one]} if one else {} for one in found]})

        def do_GET(self) -> None:
            wanted = self.path.rpartition("/")[2]
            self.answer(next(one for one in known.values() if one["id"] == wanted))

        def answer(self, value: object) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", known
    server.shutdown()
    server.server_close()


def published(name: str, *aliases: str) -> dict[str, Any]:
    return {
        "id": name,
        "modified": "2026-01-01T00:00:00Z",
        "aliases": list(aliases),
        "summary": "a flaw",
        "affected": [],
    }


def test_the_audit(osv: tuple[str, dict[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]) -> None:
    """The real uv asks about the locks: nothing and the accepted pass, one that nobody has read fails by name."""
    url, known = osv
    assert audit.main(["--service-url", url]) == 0
    known["transformers"] = published("GHSA-aaaa", load()[0].id)
    assert audit.main(["--service-url", url]) == 0
    known["numpy"] = published("GHSA-bbbb", "CVE-2099-1")
    assert audit.main(["--service-url", url]) == 1
    assert "numpy 2.4.6: CVE-2099-1, GHSA-bbbb: a flaw" in capsys.readouterr().err


def test_a_service_that_cannot_be_asked_is_no_clean_audit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the service the audit fails, and says why."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    assert audit.main(["--service-url", "http://127.0.0.1:9"]) == 2
    assert "could not be had" in capsys.readouterr().err
