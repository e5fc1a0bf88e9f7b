"""What `embedkit doctor` and `embedkit status` say of the gateway."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from env.checks import Finding, as_root
from ops.errors import OpsError
from ops.gateway.keys import keys_file, read_keys
from ops.gateway.knock import Door, knock
from ops.gateway.program import refuse_open
from ops.settings import Settings
from ops.supervisor.config import supervisorctl


def why_closed(settings: Settings) -> str:
    """Why nobody may come in without a key; empty where everybody may.

    Raises:
        OpsError: the file of keys cannot be used, or the address is public; it may not be open then either.
    """
    keys = read_keys(settings)
    refuse_open(settings, keys)
    return "" if keys is None else f"{len(keys)} keys"


def wrongly_open(settings: Settings, door: Door) -> str:
    """What is wrong with a gateway that lets everybody in; empty where that may be, or it does not."""
    if door != "open":
        return ""
    try:
        why = why_closed(settings)
    except OpsError as error:
        why = str(error)
    return why and f"{settings.gateway_url()} lets everybody in, and must not ({why}): `{_restart(settings)}`"


def examine_gateway(settings: Settings, binary: str | None) -> Finding:
    """Whether it can run, and who may come in; `binary` is HAProxy, None where it is not installed."""
    if settings.gateway == "off":
        return Finding("gateway", "ok", "switched off")
    door = knock(settings)  # whoever has started it, and be HAProxy not in this PATH
    unfit, fix = _unfit(settings)
    if wrong := wrongly_open(settings, door):
        return Finding("gateway", "fail", wrong, f"{fix} && {_restart(settings)}" if fix else _restart(settings))
    if binary is None:
        detail = "HAProxy is not installed: clients use TorchServe's own port"
        fix = as_root("apt-get install -y haproxy")
        return Finding("gateway", "fail" if settings.gateway == "on" else "note", detail, fix)
    if unfit:
        return Finding("gateway", "fail", unfit, fix)
    why = why_closed(settings)
    kept = why or "no key was made"
    said = {
        "open": "open to whoever reaches it",
        "closed": f"closed to whoever has no key: {kept}",
        "silent": f"does not answer; it would be {'closed' if why else 'open'}: {kept}",
    }[door]
    return Finding("gateway", "ok", f"{binary}, {settings.gateway_url()}, {said}")


def _restart(settings: Settings) -> str:
    return f"{supervisorctl(settings)} restart gateway"


def _unfit(settings: Settings) -> tuple[str, str]:
    """(why the gateway may not run with these settings and files, the command that mends it); empty where it may."""
    try:
        keys = read_keys(settings)
    except OpsError as error:
        return str(error), _readable(keys_file(settings))
    try:
        refuse_open(settings, keys)
    except OpsError as error:
        return str(error), _closed(settings, keys)
    tls = settings.gateway_tls
    if tls is not None and not tls.is_file():
        return f"{tls} is no file", _self_signed(tls, settings.gateway_host)
    return "", ""


def _closed(settings: Settings, keys: Mapping[str, str] | None) -> str:
    """The command after which `refuse_open` has nothing to refuse: a key where keys are wanted, TLS or nobody else."""
    commands = []
    if keys is None and (settings.gateway_tls or settings.gateway_keys):
        commands.append("embedkit key add first")
        keys = {}
    try:
        refuse_open(settings, keys)
    except OpsError:
        commands.append("EMBEDKIT_GATEWAY_HOST=127.0.0.1 make up")
    return " && ".join(commands)


def _readable(file: Path) -> str:
    """The command after which the keys that can be understood are taken, and nobody comes in without one. The
    file is kept aside: it may be something else that the setting names."""
    quoted = shlex.quote(str(file))
    if os.path.isdir(file):  # noqa: PTH112 - Path.is_dir raises where the folder above may not be read
        return f"mv {quoted} {quoted}.aside && embedkit key add first"
    if not os.access(file, os.R_OK):
        return f"{as_root(f'chown {os.getuid()} {quoted}')} && chmod 600 {quoted}"
    if file.stat().st_mode & 0o077:
        return f"chmod 600 {quoted}"
    # the lines that are keys, each name and each digest once
    keys = (
        "length($1) == 64 && $1 ~ /^[0-9A-F]+$/ && length($2) <= 64 && $2 ~ /^[A-Za-z0-9][A-Za-z0-9_.-]*$/ && "
        '$0 == $1 " " $2 && !seen[$1]++ && !seen[$2]++'
    )
    return f"(umask 077; LC_ALL=C awk '{keys}' {quoted} > {quoted}.new && mv --backup=numbered {quoted}.new {quoted})"


def _self_signed(file: Path, host: str) -> str:
    """The command that makes a certificate of its own there, for a month: clients have to be told to trust it."""
    folder, quoted = shlex.quote(str(file.parent)), shlex.quote(str(file))
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={shlex.quote(host)} -keyout {quoted} -out"
    return f"(umask 077; mkdir -p {folder}; {made} {quoted})"
