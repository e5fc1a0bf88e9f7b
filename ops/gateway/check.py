"""What `embedkit doctor` and `embedkit status` say of the gateway."""

from env.checks import Finding
from ops.errors import OpsError
from ops.gateway.keys import keys_file, read_keys
from ops.gateway.knock import Door, knock
from ops.gateway.program import refuse_open
from ops.settings import Settings

RESTART = "supervisorctl restart gateway"


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
    return why and f"{settings.gateway_url()} lets everybody in, and must not ({why}): `{RESTART}`"


def examine_gateway(settings: Settings, binary: str | None) -> Finding:
    """Whether it can run, and who may come in; `binary` is HAProxy, None where it is not installed."""
    if settings.gateway == "off":
        return Finding("gateway", "ok", "switched off")
    door = knock(settings)  # whoever has started it, and be HAProxy not in this PATH
    wrong = wrongly_open(settings, door)
    if wrong:
        return Finding("gateway", "fail", wrong, RESTART)
    if binary is None:
        detail = "HAProxy is not installed: clients use TorchServe's own port"
        return Finding("gateway", "fail" if settings.gateway == "on" else "note", detail, "apt-get install haproxy")
    try:
        why = why_closed(settings)
    except OpsError as error:
        return Finding("gateway", "fail", str(error), f"ls -l {keys_file(settings)}")
    if settings.gateway_tls is not None and not settings.gateway_tls.is_file():
        return Finding("gateway", "fail", f"{settings.gateway_tls} is no file", f"ls -l {settings.gateway_tls}")
    kept = why or "no key was made"
    said = {
        "open": "open to whoever reaches it",
        "closed": f"closed to whoever has no key: {kept}",
        "silent": f"does not answer; it would be {'closed' if why else 'open'}: {kept}",
    }[door]
    return Finding("gateway", "ok", f"{binary}, {settings.gateway_url()}, {said}")
