"""What `embedkit doctor` says of the gateway."""

from env.checks import Finding
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
        return Finding("gateway", "fail" if settings.gateway == "on" else "note", detail, "apt-get install haproxy")
    try:
        keys = read_keys(settings)
        refuse_open(settings, keys)
    except OpsError as error:
        return Finding("gateway", "fail", str(error), f"ls -l {keys_file(settings)}")
    if settings.gateway_tls is not None and not settings.gateway_tls.is_file():
        return Finding("gateway", "fail", f"{settings.gateway_tls} is no file", f"ls -l {settings.gateway_tls}")
    who = "open to whoever reaches it" if keys is None else f"{len(keys)} keys"
    return Finding("gateway", "ok", f"{binary}, {settings.gateway_url()}, {who}")
