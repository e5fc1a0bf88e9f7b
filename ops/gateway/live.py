"""Let a running gateway follow: other models, other keys, with no request lost to it."""

import time
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from ops.desired import Served, desired_file, read_models
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
    """Returns when new connections meet what was given, and connections that are open already its keys."""
    before = _workers(settings)
    if keys is not None:
        give_keys(settings, keys)
    taken = Taken(settings, inputs(settings, {"gateway": files}))
    if write_files({"gateway": files}) or "gateway" in taken.stale():
        Supervisor(settings).reload("gateway", RELOADS["gateway"])
        _workers(settings, but=before)
        taken.mark(["gateway"])


def _workers(settings: Settings, *, but: Set[int] = frozenset()) -> set[int]:
    """HAProxy's workers, once there is one beside these.

    Raises:
        OpsError: there is none in time.
    """
    deadline = time.monotonic() + RELOAD_S
    while True:
        try:
            found = set(workers(settings))
            said = "the gateway did not take its configuration"
        except OpsError as error:  # its master is between two lives
            found, said = set(), str(error)
        if found - but:
            return found
        if time.monotonic() > deadline:
            raise OpsError(f"{said} within {RELOAD_S:.0f} s: see {settings.logs / 'gateway.log'}")
        time.sleep(0.1)


def follow_models(settings: Settings, models: Iterable[Served]) -> None:
    """Have a running gateway serve these models, with the keys that there are.

    Raises:
        OpsError, ArchivesError: it cannot, or does not.
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
        models = read_models(desired_file(settings)).values()
        files = gateway_files(settings, routes_for(settings, models), keys, _binary())
    write_keys(settings, keys)
    if runs:
        try:
            _take(settings, files, keys)
        except OpsError as error:
            raise OpsError(f"the keys were written and are not in force yet: {error}") from error
    return runs
