"""The gateway as a program of supervisord: its command line, its file, and whether it may run so."""

import ipaddress
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from archives.archive import read_config
from archives.catalogue import find, load_catalogue
from archives.errors import ArchiveError
from ops.allocator import MALLOC
from ops.canary import at_gateway
from ops.desired import Served
from ops.errors import OpsError
from ops.gateway.config import haproxy_config, haproxy_file
from ops.gateway.keys import read_keys
from ops.gateway.stage import Route
from ops.settings import Settings

# HAProxy copies each request's whole buffer; giving that memory back and asking for it anew each time doubles the cost.
ENVIRONMENT = {**MALLOC, "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}


def socket_file(settings: Settings) -> Path:
    """HAProxy's own command line. A short name: HAProxy first binds it with its pid behind it."""
    return settings.run / "gw.sock"


def gateway_command(binary: str, settings: Settings) -> tuple[str, ...]:
    # -W: a master that keeps the listeners while workers come and go
    return (binary, "-W", "-S", f"{socket_file(settings)},mode,600", "-f", str(haproxy_file(settings)))


def refuse_open(settings: Settings, keys: Mapping[str, str] | None) -> None:
    """Refuse an address that others can reach without keys and TLS, and a file of the user's that is not there.

    Raises:
        OpsError: what is missing, and how to allow it all the same.
    """
    try:
        loopback = ipaddress.ip_address(settings.gateway_host).is_loopback
    except ValueError:
        loopback = settings.gateway_host == "localhost"
    if keys is None and settings.gateway_keys is not None and not settings.gateway_keys.exists():
        raise OpsError(
            f"gateway_keys names {settings.gateway_keys}, which is not there: `embedkit key add NAME` makes it"
        )
    if loopback or settings.gateway_open:
        return
    wanted = []
    if keys is None:
        wanted.append("make a key with `embedkit key add NAME`")
    if settings.gateway_tls is None:
        wanted.append("give a certificate with EMBEDKIT_GATEWAY_TLS")
    if wanted:
        raise OpsError(
            f"gateway_host {settings.gateway_host} can be reached by others: {' and '.join(wanted)}; "
            "or allow it without, with EMBEDKIT_GATEWAY_OPEN=true"
        )


def routes_for(settings: Settings, models: Iterable[Served]) -> list[Route]:
    """The routes of these models, as TorchServe has them: models.toml may say what is not deployed yet, or was rolled
    back.

    Raises:
        CatalogueError: an archive cannot be read, and models.toml is wrong or does not have the model.
    """
    return [_route(settings, one) for one in sorted(models, key=lambda one: one.model)]


def _route(settings: Settings, one: Served) -> Route:
    try:
        archive = settings.served / one.archive
        config = read_config(archive)
        created = int(archive.stat().st_mtime)
        return Route(one.model, int(config["jobQueueSize"]), int(config["responseTimeout"]), created)
    except ArchiveError:  # TorchServe has it still, or does not serve it: the rest, keys for one, goes on
        spec = find(load_catalogue(settings.models_file), one.model)
        return Route(one.model, spec.queue_size, spec.response_timeout_s)


def gateway_files(settings: Settings, routes: Sequence[Route]) -> dict[Path, str]:
    """haproxy.cfg.

    Raises:
        OpsError: a path cannot be written there, or the canary's secrets cannot be had.
    """
    return {haproxy_file(settings): haproxy_config(settings, routes, at_gateway(settings))}


def refuse_faulty(settings: Settings, routes: Sequence[Route], binary: str) -> None:
    """Have HAProxy itself look for faults in its configuration.

    Raises:
        OpsError: it refuses the file: a certificate that is none, a strange address.
    """
    # the file of keys may not be there yet
    tried = haproxy_config(settings.model_copy(update={"gateway_keys": Path(os.devnull)}), routes, at_gateway(settings))
    checked = subprocess.run(
        [binary, "-c", "-f", "/dev/stdin"], input=tried, capture_output=True, text=True, timeout=60, check=False
    )
    if checked.returncode:
        said = "; ".join(line.strip() for line in checked.stderr.splitlines() if "[ALERT]" in line) or checked.stderr
        raise OpsError(f"gateway: HAProxy refuses its configuration: {said}")


def files_now(settings: Settings, models: Iterable[Served], binary: str) -> dict[Path, str]:
    """The gateway's files for these models, with which and with the keys that there are it may run.

    Raises:
        OpsError, ArchivesError: see refuse_open, refuse_faulty, read_keys and routes_for.
    """
    refuse_open(settings, read_keys(settings))
    routes = routes_for(settings, models)
    refuse_faulty(settings, routes, binary)
    return gateway_files(settings, routes)
