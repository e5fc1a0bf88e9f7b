"""What `embedkit doctor` says of the gateway."""

import os
import shlex
from pathlib import Path

from env.checks import Finding, as_root
from ops.errors import OpsError
from ops.gateway.keys import keys_file, read_keys
from ops.gateway.program import refuse_open
from ops.settings import Settings


def examine_gateway(settings: Settings, binary: str | None) -> Finding:
    """Whether it can run, and who may come in; `binary` is HAProxy, None where it is not installed."""
    if settings.gateway == "off":
        return Finding("gateway", "ok", "switched off")
    if binary is None:
        detail = "HAProxy is not installed: clients use TorchServe's own port"
        fix = as_root("apt-get install -y haproxy")
        return Finding("gateway", "fail" if settings.gateway == "on" else "note", detail, fix)
    try:
        keys = read_keys(settings)
    except OpsError as error:
        return Finding("gateway", "fail", str(error), _readable(keys_file(settings)))
    try:
        refuse_open(settings, keys)
    except OpsError as error:
        missing = keys is None and settings.gateway_tls is not None
        fix = "embedkit key add first" if missing else "EMBEDKIT_GATEWAY_HOST=127.0.0.1 make up"
        return Finding("gateway", "fail", str(error), fix)
    tls = settings.gateway_tls
    if tls is not None and not tls.is_file():
        return Finding("gateway", "fail", f"{tls} is no file", _self_signed(tls, settings.gateway_host))
    who = "open to whoever reaches it" if keys is None else f"{len(keys)} keys"
    return Finding("gateway", "ok", f"{binary}, {settings.gateway_url()}, {who}")


def _readable(file: Path) -> str:
    """The command after which the keys that can be understood are taken, and nobody comes in without one."""
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
    return f"(umask 077; LC_ALL=C awk '{keys}' {quoted} > {quoted}.new && mv {quoted}.new {quoted})"


def _self_signed(file: Path, host: str) -> str:
    """The command that makes a certificate of its own there, for a month: clients have to be told to trust it."""
    folder, quoted = shlex.quote(str(file.parent)), shlex.quote(str(file))
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={shlex.quote(host)} -keyout {quoted} -out"
    return f"(umask 077; mkdir -p {folder}; {made} {quoted})"
