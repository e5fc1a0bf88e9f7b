"""Ask the gateway itself, without a key, whether it lets anybody in."""

import contextlib
import http.client
import ssl
import uuid
from typing import Literal

from ops.gateway.door import DOOR
from ops.settings import Settings, met_at

Door = Literal["open", "closed", "silent"]
TIMEOUT_S = 2.0


def _connection(settings: Settings, timeout_s: float) -> http.client.HTTPConnection:
    address = f"{met_at(settings.gateway_host)}:{settings.gateway_port}"
    if not settings.gateway_tls:
        return http.client.HTTPConnection(address, timeout=timeout_s)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing secret is said
    return http.client.HTTPSConnection(address, timeout=timeout_s, context=context)


def ask(
    settings: Settings, method: str, path: str, body: bytes | None = None, *, timeout_s: float = TIMEOUT_S
) -> tuple[int, bytes]:
    """The gateway's answer to a request without a key: status and body.

    Raises:
        OSError: it does not answer, or not in HTTP.
    """
    with contextlib.closing(_connection(settings, timeout_s)) as connection:
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP: {type(error).__name__}") from error


def knock(settings: Settings, timeout_s: float = TIMEOUT_S) -> Door:
    """What whoever comes without a key meets. `silent`: nothing answers in time, or another program does.

    An earlier version of the kit, which runs until the next `embedkit up`, is understood too.
    """
    connection = _connection(settings, timeout_s)
    mark = str(uuid.uuid4())  # only the gateway returns it
    try:
        connection.request("GET", DOOR, headers={"X-Request-Id": mark})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException):
        return "silent"
    finally:
        connection.close()
    if answer.headers["X-Request-Id"] != mark:
        return "silent"
    return "closed" if answer.status == 401 else "open"
