"""`embedkit key` where nothing runs yet."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from ops.cli import app
from ops.gateway.check import examine_gateway
from ops.gateway.keys import digest_of, read_keys
from ops.settings import Settings
from tests.ops.gateway.running import settings_for


def test_keys_are_added_listed_and_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """stdout has the key alone, once; the list has names; the last one revoked leaves the door shut."""
    monkeypatch.setenv("EMBEDKIT_VAR", str(tmp_path))
    cli, settings = CliRunner(), Settings(var=tmp_path)
    assert "none is needed" in cli.invoke(app, ["key", "list"]).stdout
    made = cli.invoke(app, ["key", "add", "alice"])
    key = made.stdout.strip()
    assert made.exit_code == 0
    assert read_keys(settings) == {"alice": digest_of(key)}
    assert "in force when the gateway runs" in made.stderr
    again = cli.invoke(app, ["key", "add", "alice"])
    assert (again.exit_code, again.stdout) == (1, "")
    assert "there is a key named alice" in again.stderr
    second = orjson.loads(cli.invoke(app, ["key", "add", "bob", "--json"]).stdout)
    assert second["in_force"] is False
    assert cli.invoke(app, ["key", "list"]).stdout.split() == ["alice", "bob"]
    assert cli.invoke(app, ["key", "revoke", "nobody"]).exit_code == 1
    for name in ("alice", "bob"):
        assert cli.invoke(app, ["key", "revoke", name]).exit_code == 0
    assert orjson.loads(cli.invoke(app, ["key", "list", "--json"]).stdout) == {"needed": True, "names": []}


def test_the_doctor_has_a_line_for_it(tmp_path: Path) -> None:
    """Not installed is a note, or a failure where it has to run; who may come in is said."""
    settings = settings_for(tmp_path)
    assert examine_gateway(settings, None).status == "note"
    assert examine_gateway(settings_for(tmp_path, gateway="on"), None).status == "fail"
    assert examine_gateway(Settings(var=tmp_path, gateway="off"), None).status == "ok"
    stopped = examine_gateway(settings, "/usr/sbin/haproxy")
    assert (stopped.status, "does not answer; it would be open" in stopped.detail) == ("ok", True)
    public = examine_gateway(settings_for(tmp_path, gateway_host="0.0.0.0"), "/usr/sbin/haproxy")
    assert (public.status, "embedkit key add" in public.detail) == ("fail", True)
    gone = examine_gateway(settings_for(tmp_path, gateway_tls=tmp_path / "no.pem"), "/usr/sbin/haproxy")
    assert (gone.status, "no.pem" in gone.detail) == ("fail", True)
    lost = examine_gateway(settings_for(tmp_path, gateway_keys=tmp_path / "keys"), "/usr/sbin/haproxy")
    assert (lost.status, "which is not there" in lost.detail) == ("fail", True)
