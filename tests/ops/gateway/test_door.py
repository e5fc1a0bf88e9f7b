"""Who comes in, whoever starts HAProxy and wherever `embedkit key add` was interrupted; and that asking tells it."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from ops.desired import Served, commit
from ops.errors import OpsError
from ops.exporter.families import Families
from ops.exporter.source import AbsentError, SourceError
from ops.exporter.sources.door import DoorSource
from ops.gateway import keys, live
from ops.gateway.check import examine_gateway, wrongly_open
from ops.gateway.config import haproxy_file
from ops.gateway.control import key_use
from ops.gateway.keys import keys_file, open_unless_decided, read_keys, with_new, write_keys
from ops.gateway.knock import knock
from ops.gateway.program import files_now, gateway_command, gateway_files, routes_for
from ops.observers import write_files
from ops.settings import Settings
from tests.ops.gateway.running import gateway, haproxy, served, settings_for, started
from tests.ops.gateway.stand_in import StandIn, serving

pytestmark = pytest.mark.needs("haproxy")

KEYS, ALICE = with_new({}, "alice")
USE = {"Authorization": f"Bearer {ALICE}"}


def models(settings: Settings, **chosen: Any) -> int:
    """The status that a list of the models comes with."""
    return requests.get(settings.gateway_url("/v1/models"), timeout=5, **chosen).status_code


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A deployment that was brought up once, without a key; nothing runs."""
    made = settings_for(tmp_path, store=tmp_path / "store")
    one = served(made, "m-a.mar", queue_size=64)
    commit(made, one)
    write_files({"gateway": gateway_files(made, routes_for(made, [one]))})
    open_unless_decided(made)
    return made


def earlier(settings: Settings) -> None:
    """haproxy.cfg as versions before had it where no key was made: open, by itself, whatever the file of keys says."""
    file = haproxy_file(settings)
    known = f'map("{keys_file(settings)}")'
    text = file.read_text()
    for new, old in (
        (f"'str(open),{known}' unless health", "str(anonymous) if !health !{ str(closed),map(/dev/null) -m found }"),
        (known, "map(/dev/null)"),
        ("    http-request return status 204 if door\n", ""),
    ):
        assert new in text
        text = text.replace(new, old)
    file.write_text(text)
    keys_file(settings).unlink(missing_ok=True)


def test_the_first_key_closes_a_stopped_gateway(settings: Settings) -> None:
    """What it starts with after that lets in the key alone, and before it everybody."""
    with started(settings):
        assert (models(settings), knock(settings)) == (200, "open")
    assert live.change_keys(settings, KEYS) is False
    with started(settings):
        assert (models(settings), models(settings, headers=USE), knock(settings)) == (401, 200, "closed")
        assert live.change_keys(settings, {}) is True
        assert (models(settings, headers=USE), knock(settings)) == (401, "closed")
    with started(settings):
        assert (models(settings), knock(settings)) == (401, "closed")


def test_a_stopped_gateway_of_an_earlier_version_is_closed_too(settings: Settings) -> None:
    """Its configuration does not read the file of keys: it is replaced before there is one."""
    earlier(settings)
    with started(settings):
        assert (models(settings), knock(settings)) == (200, "open")
    live.change_keys(settings, KEYS)
    with started(settings):
        assert (models(settings), models(settings, headers=USE)) == (401, 200)


def test_a_running_gateway_of_an_earlier_version_is_closed_too(settings: Settings) -> None:
    """On connections that are open already as well, which stay with its old worker."""
    earlier(settings)
    with started(settings), requests.Session() as session:
        url = settings.gateway_url("/v1/models")
        assert session.get(url, timeout=5).status_code == 200
        assert live.change_keys(settings, KEYS)
        assert (session.get(url, timeout=5).status_code, models(settings)) == (401, 401)
        assert session.get(url, headers=USE, timeout=5).status_code == models(settings, headers=USE) == 200


def test_an_open_gateway_of_an_earlier_version_stays_open(settings: Settings) -> None:
    """Where no key was ever made, the next change of models moves the decision into the file of keys."""
    earlier(settings)
    with started(settings):
        live.follow_models(settings, [])
        assert (models(settings), knock(settings)) == (200, "open")
    assert str(keys_file(settings)) in haproxy_file(settings).read_text()
    earlier(settings)
    live.follow_models(settings, [])  # stopped
    with started(settings):
        assert (models(settings), knock(settings)) == (200, "open")


def test_without_the_file_of_keys_nothing_starts(settings: Settings) -> None:
    """A file that was lost opens nothing: HAProxy names it and ends."""
    keys_file(settings).unlink()
    settings.run.mkdir()
    done = subprocess.run(gateway_command(haproxy(), settings), capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 1
    assert str(keys_file(settings)) in done.stderr


def test_a_running_gateway_that_lost_the_file_is_not_opened(settings: Settings) -> None:
    """A deploy, or a model taken out, names the file that is gone, and the keys stay what they were."""
    write_keys(settings, KEYS)
    with started(settings):
        keys_file(settings).unlink()
        with pytest.raises(OpsError, match=r"gateway-keys, which is gone: bring it back, or make keys anew"):
            live.follow_models(settings, [])
        assert (models(settings), models(settings, headers=USE)) == (401, 200)
    assert not keys_file(settings).exists()


def test_a_file_of_the_users_is_never_opened(tmp_path: Path) -> None:
    """Where `gateway_keys` names a file that is not there, the gateway is not brought up without it, public or not."""
    settings = settings_for(tmp_path, gateway_keys=tmp_path / "secret" / "keys", gateway_open=True)
    with pytest.raises(OpsError, match=r"secret/keys, which is not there: `embedkit key add NAME` makes it"):
        files_now(settings, [], haproxy())
    write_keys(settings, KEYS)
    files_now(settings, [], haproxy())


def test_models_of_a_stopped_gateway_are_followed(settings: Settings) -> None:
    """What was taken out meanwhile is not there when it starts; where none was ever brought up, nothing is written."""
    live.follow_models(settings, [])
    with started(settings):
        assert requests.get(settings.gateway_url("/v1/models"), timeout=5).json()["data"] == []
    haproxy_file(settings).unlink()
    live.follow_models(settings, [])
    live.change_keys(settings, KEYS)
    assert not haproxy_file(settings).exists()
    assert read_keys(settings) == KEYS


class Interrupted(BaseException):
    """As a kill: nothing of the kit's handles it."""


@contextmanager
def interrupted(patch: pytest.MonkeyPatch, at: int) -> Iterator[list[str]]:
    """Ends the block before its step number `at` that changes a file or what runs; the steps that were reached."""
    steps: list[str] = []

    def counted(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def take(*arguments: Any, **options: Any) -> Any:
            steps.append(name)
            if len(steps) > at:
                raise Interrupted
            return step(*arguments, **options)

        return take

    with patch.context() as patched:
        for module, name in ((live, "write_files"), (keys, "write_whole"), (live, "give_keys"), (live, "reload")):
            patched.setattr(module, name, counted(name, getattr(module, name)))
        with suppress(Interrupted):
            yield steps


@pytest.mark.parametrize("old", [False, True], ids=["this version", "earlier version"])
@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])
def test_an_interrupted_first_key_never_leaves_it_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, old: bool, runs: bool
) -> None:
    """Before each step that it takes: once there is a key, what runs and what is started then asks for it."""
    done, at = False, 0
    while not done:
        write_files({"gateway": gateway_files(settings, routes_for(settings, [Served("m", "1.0", "m-a.mar", "")]))})
        write_keys(settings, None)
        if old:
            earlier(settings)
        (settings.state / "taken.json").unlink(missing_ok=True)

        with started(settings) if runs else nullcontext():
            with interrupted(monkeypatch, at) as steps:
                live.change_keys(settings, KEYS)
                done = True
            if runs:
                assert knock(settings) == "closed" or not read_keys(settings), steps
        if keys_file(settings).exists():
            with started(settings):
                assert knock(settings) == "closed" or read_keys(settings) is None, steps
        at += 1
    assert read_keys(settings) == KEYS
    assert len(steps) >= (6 if runs else 3)


def test_asking_is_neither_logged_nor_counted(tmp_path: Path) -> None:
    """Open or closed, hundreds of askings leave no line, use up no key's rate, and count to nobody; a key that is tried
    there is logged."""
    settings = settings_for(tmp_path, gateway_key_rate=1)
    for made in (None, KEYS):
        with serving(StandIn(settings.inference_port)), gateway(settings, keys=made) as running:
            assert {knock(settings) for _ in range(200)} == {"closed" if made else "open"}
            assert key_use(settings) == {}
            assert models(settings, headers=USE) == 200
            name = "alice" if made else "anonymous"
            assert {known: use.requests for known, use in key_use(settings).items()} == {name: 1}
            tried = {"Authorization": "Bearer nonsense", "X-Request-Id": f"tried-{name}"}
            requests.get(settings.gateway_url("/door"), headers=tried, timeout=5)
            assert running.logged(f"tried-{name}")["path"] == "/door"
            assert running.log.count('"path":"\\/door"') == 1


def test_what_is_not_the_gateway_is_silent(tmp_path: Path) -> None:
    """Nobody there, and another program on its port, which answers everything with 200."""
    settings = settings_for(tmp_path)
    assert knock(settings) == "silent"
    with serving(StandIn(settings.gateway_port)) as other:
        assert knock(settings) == "silent"
        assert [one.path for one in other.arrived] == ["/door"]


@pytest.mark.needs("openssl")
def test_a_door_with_tls_is_asked(tmp_path: Path, certificate: Path) -> None:
    """A certificate that nobody signed does not matter for that."""
    settings = settings_for(tmp_path, gateway_tls=certificate)
    with gateway(settings, keys=KEYS):
        assert knock(settings) == "closed"


def test_all_who_tell_it_ask(tmp_path: Path) -> None:
    """Doctor and the exporter say what the door does, and that it is wrong where keys are on disk all the same."""
    settings = settings_for(tmp_path)

    def told() -> tuple[str, dict[str, float]]:
        families = Families()
        DoorSource(settings).fetch(families)
        values = {sample.name: sample.value for family in families for sample in family.samples}
        return examine_gateway(settings, haproxy()).status, values

    with pytest.raises(AbsentError):
        DoorSource(settings).fetch(Families())
    with gateway(settings):
        assert told() == ("ok", {"gateway_open": 1, "gateway_wrongly_open": 0})
        write_keys(settings, KEYS)  # behind its back
        assert told() == ("fail", {"gateway_open": 1, "gateway_wrongly_open": 1})
        assert examine_gateway(settings, None).status == "fail"
        assert "1 keys" in wrongly_open(settings, knock(settings))
        live.follow_models(settings, [])
        assert told() == ("ok", {"gateway_open": 0, "gateway_wrongly_open": 0})
        keys_file(settings).chmod(0o644)
        assert told()[0] == "fail"
    with pytest.raises(SourceError, match="does not answer"):
        DoorSource(settings).fetch(Families())


def test_a_public_door_that_is_open_is_wrong(tmp_path: Path) -> None:
    """Unless `gateway_open` says so."""
    public = settings_for(tmp_path, gateway_host="0.0.0.0")
    assert "gateway_host 0.0.0.0 can be reached by others" in wrongly_open(public, "open")
    assert wrongly_open(public, "closed") == wrongly_open(public, "silent") == ""
    assert wrongly_open(public.model_copy(update={"gateway_open": True}), "open") == ""


def test_a_gateway_that_cannot_be_reached_is_told(settings: Settings) -> None:
    """HAProxy of an earlier version, started by hand without its socket: the command says that it lets everybody in."""
    earlier(settings)
    settings.run.mkdir()
    process = subprocess.Popen([haproxy(), "-f", str(haproxy_file(settings))])
    try:
        deadline = time.monotonic() + 5
        while knock(settings) == "silent":
            assert time.monotonic() < deadline
        with pytest.raises(OpsError, match=r"not in force yet: .* lets everybody in: restart what serves it"):
            live.change_keys(settings, KEYS)
    finally:
        process.kill()
        process.wait()
