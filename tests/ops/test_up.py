"""What `up` does to programs that run: what is needed, and after an interruption the rest of it."""

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from archives.progress import SILENT
from ops import observers, up
from ops.deploy.converge import Limits
from ops.desired import Served, commit
from ops.errors import OpsError
from ops.preflight import addresses, preflight
from ops.settings import Settings
from ops.supervisor.control import Changes, Program
from tests.e2e.stack import OBSERVERS_OFF


class Supervised:
    """In supervisord's place: the programs that run, what was done to them, and what is interrupted."""

    def __init__(self, *alive: str) -> None:
        names = ("torchserve", "exporter", "watchdog", "prometheus")
        self.alive = dict.fromkeys(names, False) | dict.fromkeys(alive, True)
        self.done: list[tuple[str, str]] = []
        self.interrupted: set[str] = set()
        self.changes = Changes()

    def running(self) -> bool:
        return any(self.alive.values())

    def boot(self) -> None:
        self.alive = dict.fromkeys(self.alive, True)

    def reread(self) -> Changes:
        return self.changes

    def take(self, changes: Changes) -> None:
        self._do("take", *changes.names)

    def _do(self, what: str, *names: str) -> None:
        if what in self.interrupted:
            raise KeyboardInterrupt
        self.done += [(what, name) for name in names]

    def stop(self, name: str) -> None:
        self._do("stop", name)
        self.alive[name] = False

    def start(self, name: str) -> None:
        self._do("start", name)
        self.alive[name] = True

    def reload(self, name: str, _signal: str) -> None:
        self._do("reload", name)

    def program(self, name: str) -> Program:
        return Program(name, "RUNNING" if self.alive[name] else "STOPPED", 0, 0, 0, 0, "", "")

    def programs(self) -> list[Program]:
        return [self.program(name) for name in self.alive]


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Supervised:
    stand_in = Supervised()
    monkeypatch.setattr(up, "Supervisor", lambda _: stand_in)
    monkeypatch.setattr(up, "_converge", lambda *_: None)
    return stand_in


def start(supervised: Supervised, settings: Settings) -> list[tuple[str, str]]:
    """One `up` from the prepared models on; returns what it did to the programs."""
    supervised.done.clear()
    up._start(settings, {}, Limits(60), SILENT)
    return list(supervised.done)


def changed(settings: Settings, **values: object) -> Settings:
    return Settings.model_validate({**settings.model_dump(), **values})


@pytest.fixture
def settings(tmp_path: Path, supervised: Supervised, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A deployment that runs as it should."""
    here = {"prometheus": "/usr/bin/prometheus"}

    def planned(of: Settings, *_: object) -> observers.Plan:
        return observers.plan(of, ours={}, port_is_free=lambda _: True, binary_of=here.get)

    monkeypatch.setattr(up, "_optional", planned)
    made = Settings(var=tmp_path)
    assert start(supervised, made) == []
    assert supervised.running()
    return made


def test_nothing_changed_is_nothing_done(settings: Settings, supervised: Supervised) -> None:
    """After a boot the next `up` touches no program; the settings are for their owner alone to read."""
    assert start(supervised, settings) == []
    assert (settings.state / "settings.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("values", "whom"),
    [
        (
            {"jvm_heap_mb": 700},
            [
                *(("stop", name) for name in ("exporter", "torchserve", "watchdog")),
                *(("start", name) for name in ("torchserve", "exporter", "watchdog")),
            ],
        ),
        ({"canary_interval_s": 9}, [("stop", "exporter"), ("start", "exporter")]),
        ({"scrape_interval_s": 9}, [("reload", "prometheus")]),
    ],
)
def test_a_setting_restarts_whom_it_concerns(
    values: dict[str, object], whom: list[tuple[str, str]], settings: Settings, supervised: Supervised
) -> None:
    """Once: the `up` after it does nothing."""
    assert start(supervised, changed(settings, **values)) == whom
    assert start(supervised, changed(settings, **values)) == []


@pytest.mark.parametrize(
    ("interrupted", "values", "rest"),
    [
        ("stop", {"jvm_heap_mb": 700}, {("stop", "exporter"), ("stop", "torchserve")}),
        ("start", {"jvm_heap_mb": 700}, {("start", "exporter"), ("start", "torchserve")}),
        ("reload", {"scrape_interval_s": 9}, {("reload", "prometheus")}),
    ],
)
def test_the_next_up_finishes_an_interrupted_one(
    interrupted: str,
    values: dict[str, object],
    rest: set[tuple[str, str]],
    settings: Settings,
    supervised: Supervised,
) -> None:
    """^C while a program is restarted: the files are written by then, and the next `up` still does the rest."""
    supervised.interrupted = {interrupted}
    with pytest.raises(KeyboardInterrupt):
        start(supervised, changed(settings, **values))
    supervised.interrupted.clear()
    assert rest <= set(start(supervised, changed(settings, **values)))
    assert all(supervised.alive.values())
    assert start(supervised, changed(settings, **values)) == []


def test_what_supervisord_has_not_taken_is_taken_later(settings: Settings, supervised: Supervised) -> None:
    """supervisord is asked each time how its configuration differs; what it restarts itself is not restarted twice."""
    other = changed(settings, stop_timeout_s=40)
    supervised.changes, supervised.interrupted = Changes(changed=("torchserve",)), {"take"}
    with pytest.raises(KeyboardInterrupt):
        start(supervised, other)
    supervised.interrupted.clear()
    assert start(supervised, other) == [
        ("take", "torchserve"),
        *((what, name) for what in ("stop", "start") for name in ("exporter", "watchdog")),
    ]


def test_the_gateway_goes_by_what_is_served_until_it_is_replaced(
    settings: Settings, supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed archive of a served model: its queue and time are the gateway's once TorchServe has it, not before."""
    old, new = (Served("m", "1.0", f"m-{each}.mar", each) for each in "ab")
    commit(settings, old)
    taken: list[object] = []

    def planned(_: Settings, __: object, models: Iterable[Served], ___: object) -> observers.Plan:
        taken.append(list(models))
        return observers.Plan()

    def follow(_: Settings, models: Iterable[Served], __: object) -> None:
        taken.append(list(models))

    monkeypatch.setattr(up, "_optional", planned)
    monkeypatch.setattr(up, "_converge", lambda *_: taken.append("converged"))
    monkeypatch.setattr(up, "follow_models", follow)
    up._start(settings, {"m": new}, Limits(60), SILENT)
    assert taken == [[old], "converged", [new]]


@pytest.mark.needs("haproxy")
def test_the_gateways_port_is_tried_where_it_listens(tmp_path: Path) -> None:
    """Free on loopback and taken on `gateway_host` it is taken: the gateway is not started, and that is said."""
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        settings = Settings(
            var=tmp_path, gateway_host="127.0.0.2", gateway_port=port, gateway_open=True, **OBSERVERS_OFF
        )
        supervisor: Any = Supervised()
        with pytest.raises(OpsError, match=f"gateway: port {port} is in use by another program"):
            up._optional(settings.model_copy(update={"gateway": "on"}), supervisor, [], SILENT)
        assert up._optional(settings, supervisor, [], SILENT).programs == ()


def test_up_refuses_a_gateway_host_of_another_machine(tmp_path: Path) -> None:
    """Before anything starts, with setting, value and next step; a gateway that is off listens nowhere."""
    settings = Settings(var=tmp_path, gateway_host="192.0.2.1")
    with pytest.raises(OpsError, match=r"gateway_host: '192\.0\.2\.1' is no address.*EMBEDKIT_GATEWAY_HOST=127"):
        preflight(settings)
    assert [one.status for one in addresses(settings.model_copy(update={"gateway": "off"}))] == ["ok"]
