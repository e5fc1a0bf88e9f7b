"""Let a running gateway follow: other models, other keys, with no request lost to it."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from ops.desired import desired_file, read_models
from ops.errors import OpsError
from ops.gateway.control import give_keys, workers
from ops.gateway.keys import read_keys, write_keys
from ops.gateway.program import files_now, gateway_files, routes_for
from ops.observers import RELOADS, find_binary, write_files
from ops.settings import Settings
from ops.supervisor.control import Supervisor
from ops.taken import Taken, inputs

RELOAD_S = 15.0


def _binary() -> str:
    found = find_binary("gateway")
    if found is None:
        raise OpsError("haproxy is not in PATH any more, and the gateway runs: install it again")
    return found


def _take(settings: Settings, files: Mapping[Path, str], keys: Mapping[str, str] | None) -> None:
    """Returns when new connections meet what was given."""
    before = set(workers(settings))
    if write_files({"gateway": files}):
        Supervisor(settings).reload("gateway", RELOADS["gateway"])
        deadline = time.monotonic() + RELOAD_S
        while not _others(settings, before):
            if time.monotonic() > deadline:
                raise OpsError(
                    f"the gateway did not take its configuration within {RELOAD_S:.0f} s: "
                    f"see {settings.logs / 'gateway.log'}"
                )
            time.sleep(0.1)
        Taken(settings, inputs(settings, {"gateway": files})).mark(["gateway"])
    elif keys is not None:
        give_keys(settings, keys)


def _others(settings: Settings, before: set[int]) -> bool:
    try:
        return bool(set(workers(settings)) - before)
    except OpsError:  # its master is between two lives
        return False


def follow_models(settings: Settings, models: Iterable[str]) -> None:
    """Have a running gateway serve these models.

    Raises:
        OpsError, CatalogueError: it cannot, or does not.
    """
    if Supervisor(settings).runs("gateway"):
        _take(settings, files_now(settings, models, _binary()), read_keys(settings))


def change_keys(settings: Settings, keys: Mapping[str, str]) -> bool:
    """Write the keys and have a running gateway go by them; returns whether one runs.

    Raises:
        OpsError, CatalogueError: it cannot; once the keys are written they stay, and hold from its next start.
    """
    runs = Supervisor(settings).runs("gateway")
    if runs:
        models = read_models(desired_file(settings))
        files = gateway_files(settings, routes_for(settings, models), keys, _binary())
    write_keys(settings, keys)
    if runs:
        try:
            _take(settings, files, keys)
        except OpsError as error:
            raise OpsError(f"the keys were written and are not in force yet: {error}") from error
    return runs
