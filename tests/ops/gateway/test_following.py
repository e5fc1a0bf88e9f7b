"""A running HAProxy goes by what is served, whatever models.toml says meanwhile."""

import os
from pathlib import Path

import pytest

from archives.placement import Need
from archives.progress import SILENT
from ops.deploy import command
from ops.deploy.converge import Limits
from ops.desired import Served, commit, previous_file, read_models
from ops.errors import OpsError
from ops.gateway import live
from ops.gateway.config import haproxy_file
from ops.gateway.control import ask
from ops.gateway.program import routes_for
from ops.gateway.stage import Route
from ops.settings import Settings
from tests.ops.gateway.running import gateway, served, settings_for
from tests.ops.gateway.test_config import lines

CATALOGUE = '[m]\nsource = { folder = "m" }\nqueue_size = 7\nresponse_timeout_s = 8\n'


def test_a_route_is_what_the_archive_says(tmp_path: Path) -> None:
    """TorchServe has queue and time from the archive, and `created` is when that was made; where that is gone, what
    models.toml says has to do."""
    models_file = tmp_path / "models.toml"
    models_file.write_text(CATALOGUE)
    settings = Settings(var=tmp_path, store=tmp_path / "store", models_file=models_file)
    one = served(settings, "m-a.mar", queue_size=64)
    os.utime(settings.served / one.archive, (1_700_000_000, 1_700_000_000))
    assert routes_for(settings, [one]) == [Route("m", 64, 20, created=1_700_000_000)]
    (settings.served / one.archive).unlink()
    assert routes_for(settings, [one]) == [Route("m", 7, 8)]


class Converged:
    """In Converging's place, where TorchServe does as it is told."""

    dropped: tuple[str, ...] = ()

    def __init__(self, settings: Settings, target: Served, *_: object, rolling_back: bool = False) -> None:
        self._settings, self._target, self._rolling_back = settings, target, rolling_back

    def run(self) -> None:
        commit(self._settings, self._target, rolling_back=self._rolling_back)


@pytest.mark.needs("haproxy")
def test_a_deploy_and_a_rollback_bring_the_gateway_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the command returns HAProxy has the new archive's queue and time, and after a rollback the old one's."""
    settings = settings_for(tmp_path, store=tmp_path / "store")
    old = served(settings, "m-a.mar", queue_size=64)
    new = served(settings, "m-b.mar", queue_size=8, response_timeout_s=50)
    commit(settings, old)
    monkeypatch.setattr(command, "Converging", Converged)
    with gateway(settings, routes_for(settings, [old])):

        def replace(current: Served, target: Served) -> tuple[list[str], str]:
            need = Need("m", 1, 1, on_gpu=False)
            command._replace(settings, current, target, need, limits=Limits(60), progress=SILENT)
            text = haproxy_file(settings).read_text()
            # the column slim: the places that the running worker gives
            places = ask(settings, "@1 show stat model-m 4 -1").splitlines()[1].split(",")[6]
            return lines(text, "timeout server")[1:3], places

        assert replace(old, new) == (["timeout server 80s"] * 2, "6")
        assert replace(new, old) == (["timeout server 50s"] * 2, "48")
    assert read_models(previous_file(settings))["m"] == new


def test_a_gateway_that_does_not_come_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step, and what HAProxy said itself."""
    settings = Settings(var=tmp_path)
    settings.logs.mkdir()
    (settings.logs / "gateway.log").write_text("[ALERT] cannot bind socket\n")
    monkeypatch.setattr(live, "RELOAD_S", 0.0)
    with pytest.raises(OpsError, match=r"(?s)EMBEDKIT_GATEWAY=off, then `embedkit up`.*\[ALERT\] cannot bind socket"):
        live._workers(settings)
