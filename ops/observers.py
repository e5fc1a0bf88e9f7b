"""The gateway, Prometheus, Alertmanager and Grafana: which of them `embedkit up` runs, and with what files.

They are not part of the environment: each is run where it is installed, unless a setting says otherwise.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from archives.store import write_whole
from ops.errors import OpsError
from ops.gateway.program import ENVIRONMENT, gateway_command
from ops.grafana.provisioning import grafana_command, grafana_files
from ops.prometheus.config import (
    alertmanager_command,
    alertmanager_files,
    prometheus_command,
    prometheus_files,
)
from ops.settings import OPTIONAL, Settings
from ops.supervisor.programs import LONGEST_STOP_S, Program

# Debian calls Alertmanager prometheus-alertmanager; Grafana's older releases have a binary a command.
BINARIES = {
    "gateway": ("haproxy",),
    "prometheus": ("prometheus",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "grafana": ("grafana", "grafana-server"),
}
# What takes a changed configuration without losing a sample or a connection, and by which signal.
RELOADS = {"prometheus": "HUP", "alertmanager": "HUP", "gateway": "USR2"}
_COMMANDS: dict[str, Callable[[str, Settings], tuple[str, ...]]] = {
    "gateway": gateway_command,
    "prometheus": prometheus_command,
    "alertmanager": alertmanager_command,
    "grafana": grafana_command,
}


@dataclass(frozen=True)
class Plan:
    """What runs, and why something that was not switched off does not."""

    programs: tuple[Program, ...] = ()
    notes: tuple[str, ...] = ()
    files: Mapping[str, Mapping[Path, str]] = field(default_factory=dict)


def find_binary(name: str) -> str | None:
    """The program's path, in this PATH or where Debian puts HAProxy, which is in no ordinary user's."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"
    return next((found for binary in BINARIES[name] if (found := shutil.which(binary, path=path))), None)


def _command(settings: Settings, name: str, binary: str | None, *, taken: str) -> tuple[str, ...]:
    """The program's command line; empty where it is not installed and need not be.

    Raises:
        OpsError: why it cannot run here, with the way out.
    """
    variable = f"EMBEDKIT_{name.upper()}"
    if binary is None:
        if getattr(settings, name) == "auto":
            return ()
        raise OpsError(f"{name}: {' or '.join(BINARIES[name])} is not installed: install it, or set {variable}=off")
    if taken:
        port, page = settings.ports[taken], "gateway" if name == "gateway" else "observability"
        raise OpsError(
            f"{name}: port {port} is in use by another program: set EMBEDKIT_{taken.upper()}_PORT to another, "
            f"or {variable}=off and use your own (docs/{page}.md)"
        )
    return _COMMANDS[name](binary, settings)


def plan(
    settings: Settings,
    *,
    ours: Mapping[str, int],
    port_is_free: Callable[[int], bool],
    binary_of: Callable[[str], str | None] = find_binary,
) -> Plan:
    """Decide what to run.

    Args:
        settings: what is wanted.
        ours: what our supervisord runs now, each listener with its port, which it has taken itself.
        port_is_free: whether nobody listens on a port.
        binary_of: a program, None where it is not installed.

    Raises:
        OpsError: one is `on` and cannot run here.
    """
    commands: dict[str, tuple[str, ...]] = {}
    notes = []
    for name in OPTIONAL:
        wanted = getattr(settings, name)
        if wanted == "off":
            continue
        try:
            ports = settings.ports_of(name).items()
            taken = [listener for listener, port in ports if ours.get(listener) != port and not port_is_free(port)]
            command = _command(settings, name, binary_of(name), taken=next(iter(taken), ""))
        except OpsError as error:
            if wanted == "on":
                raise
            notes.append(f"not started: {error}")
            continue
        if command:
            commands[name] = command
        elif name in ours:
            notes.append(f"{name} is stopped: {' or '.join(BINARIES[name])} is not in PATH any more")
    files: dict[str, Mapping[Path, str]] = {}
    if "prometheus" in commands:
        files["prometheus"] = prometheus_files(
            settings, alerting="alertmanager" in commands, gateway="gateway" in commands
        )
    if "alertmanager" in commands:
        files["alertmanager"] = alertmanager_files(settings)
    if "grafana" in commands:
        files["grafana"] = grafana_files(settings)
    options: dict[str, object] = {"startsecs": 3, "stopwaitsecs": LONGEST_STOP_S}
    own = {"gateway": {"environment": ",".join(f'{name}="{value}"' for name, value in ENVIRONMENT.items())}}
    programs = tuple(Program(name, command, options | own.get(name, {})) for name, command in commands.items())
    return Plan(programs, tuple(notes), files)


def write_files(files: Mapping[str, Mapping[Path, str]]) -> set[str]:
    """Write what differs, for this user alone, as alert_webhook may be a secret; returns whose files have changed."""
    changed = set()
    for name, contents in files.items():
        for path, text in contents.items():
            content = text.encode()
            if not path.exists() or path.read_bytes() != content or path.stat().st_mode & 0o077:
                write_whole(path, content, mode=0o600)
                changed.add(name)
    return changed
