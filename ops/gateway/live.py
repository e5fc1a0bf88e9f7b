"""Let the gateway follow, whether it runs or not: other models, other keys, with no request lost to it."""

import time
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path

from archives.progress import SILENT
from ops.desired import Served, desired_file, read_models
from ops.errors import OpsError
from ops.exclusive import exclusive, keys_lock
from ops.gateway.config import haproxy_file
from ops.gateway.control import give_keys, reload, workers
from ops.gateway.keys import keys_file, open_unless_decided, read_keys, write_keys
from ops.gateway.knock import knock
from ops.gateway.program import files_now, gateway_files, routes_for
from ops.observers import find_binary, write_files
from ops.serving import with_log
from ops.settings import Settings
from ops.supervisor.control import Supervisor
from ops.taken import Taken, inputs

RELOAD_S = 15.0


def _binary() -> str:
    found = find_binary("gateway")
    if found is None:
        raise OpsError("haproxy is not in PATH any more, and the gateway runs: install it again")
    return found


def _runs(settings: Settings) -> bool:
    """Whether HAProxy runs with our configuration, or is about to; supervisord need not have started it."""
    if Supervisor(settings).runs("gateway"):
        return True
    try:
        return bool(workers(settings))
    except OpsError:
        return False


def _take(settings: Settings, files: Mapping[Path, str], keys: Mapping[str, str] | None) -> None:
    """Returns when new connections meet what was given, and connections that are open already its keys."""
    before = _workers(settings)
    give_keys(settings, keys)
    write_files({"gateway": files})
    taken = Taken(settings, inputs(settings, {"gateway": files}))
    if "gateway" in taken.stale():
        reload(settings)
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
            said = f"{said} within {RELOAD_S:.0f} s: mend it, or set EMBEDKIT_GATEWAY=off, then `embedkit up` again"
            raise with_log(said, settings.logs / "gateway.log")
        time.sleep(0.1)


def _write(settings: Settings, models: Iterable[Served], *, runs: bool) -> dict[Path, str]:
    """Have a gateway that was brought up once start with these models, whoever starts it."""
    if not haproxy_file(settings).exists():
        return {}
    files = gateway_files(settings, routes_for(settings, models))
    write_files({"gateway": files})
    if not runs:
        Taken(settings, inputs(settings, {"gateway": files})).mark(["gateway"])
    return files


def _open_as_before(settings: Settings) -> None:
    """Say in the file of keys that nobody needs one, where an earlier version's haproxy.cfg lets in everybody itself;
    a file of keys that was lost opens nothing."""
    file = haproxy_file(settings)
    if file.exists() and str(keys_file(settings)) not in file.read_text(encoding="utf-8"):
        open_unless_decided(settings)


def follow_models(settings: Settings, models: Iterable[Served], say: Callable[[str], None] = SILENT.say) -> None:
    """Have the gateway serve these models, with the keys that there are: now where it runs, else once it does.

    Raises:
        OpsError, ArchivesError: it cannot, or does not.
    """
    with exclusive(keys_lock(settings), say):
        _follow(settings, models)


def _follow(settings: Settings, models: Iterable[Served]) -> None:
    _open_as_before(settings)
    if not _runs(settings):
        _write(settings, models, runs=False)
        return
    files = files_now(settings, models, _binary())
    if not keys_file(settings).exists():
        raise OpsError(
            f"the gateway runs and goes by {keys_file(settings)}, which is gone: bring it back, or make keys anew with "
            "`embedkit key add NAME`; `embedkit up` lets in everybody"
        )
    _take(settings, files, read_keys(settings))


def change_keys(settings: Settings, keys: Mapping[str, str]) -> bool:
    """Write the keys and have a running gateway go by them; returns whether one runs.

    To be used under the keys' lock, as the reading of the keys that it replaces.

    At no moment is the gateway open while there is a key: what starts from now on is closed first, then what runs, and
    only then the keys are there.

    Raises:
        OpsError, CatalogueError: it cannot; once the keys are written they stay, and hold from its next start.
    """
    runs = _runs(settings)
    files = _write(settings, read_models(desired_file(settings)).values(), runs=runs)
    closed = read_keys(settings) or {}
    write_keys(settings, closed)
    if runs:
        _workers(settings)
        give_keys(settings, closed)
    write_keys(settings, keys)
    try:
        if runs:
            _take(settings, files, keys)
        if files and knock(settings) == "open":
            raise OpsError(f"{settings.gateway_url()} lets everybody in: restart what serves it")
    except OpsError as error:
        raise OpsError(f"the keys were written and are not in force yet: {error}") from error
    return runs
