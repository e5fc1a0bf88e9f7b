"""The mark on the kit's own requests, by which they are told from users' and kept out of what counts as traffic.

It holds a secret of this deployment, so that nobody hides traffic behind it or is mistaken for it. TorchServe shows
the query in its access log and keeps it from the workers, which see the header. The gateway marks what it passes on
in the same way: such a request is counted from the gateway's log, as its user saw it.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from handlers.canary import HEADER
from ops.errors import OpsError
from ops.settings import Settings


@dataclass(frozen=True)
class Mark:
    """What a marked request carries: its whole query string, and headers."""

    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class AtGateway:
    """What the gateway's configuration holds of the kit's own requests.

    `key_digest` is the canary key's SHA-256 in capitals, `token` marks the canaries that it passes on, and `query` all
    that it passes on.
    """

    key_digest: str
    token: str
    query: str


def token_of(settings: Settings) -> str:
    """This deployment's secret, made when it is first asked for.

    Raises OSError where it can be neither read nor written.
    """
    return _secret(settings.state / "canary-token")


def gateway_key_of(settings: Settings) -> str:
    """The canary's key at the gateway, made when it is first asked for. It is not the token, which stands in
    TorchServe's access log.

    Raises OSError where it can be neither read nor written.
    """
    return _secret(settings.state / "canary-key")


def forwarded_query(token: str) -> str:
    """The whole query string of what the gateway passes on."""
    return f"embedkit-gateway={token}"


def at_gateway(settings: Settings) -> AtGateway:
    """What to render into the gateway's configuration.

    Raises:
        OpsError: a secret can be neither read nor written.
    """
    try:
        token, key = token_of(settings), gateway_key_of(settings)
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(f"{error}: it holds a secret of the kit's canaries: remove it, then `embedkit up`") from error
    return AtGateway(hashlib.sha256(key.encode()).hexdigest().upper(), token, forwarded_query(token))


def _secret(file: Path) -> str:
    try:
        if token := file.read_text(encoding="ascii"):
            return token
    except FileNotFoundError:
        pass
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(secrets.token_urlsafe(24))
    try:
        os.link(beside, file)  # of two who make one at once, the first wins
    except FileExistsError:
        if not file.read_text(encoding="ascii"):
            beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    return file.read_text(encoding="ascii")


def mark_of(settings: Settings) -> Mark | None:
    """The mark; None where the secret is not ours to read: such a request counts as anybody's."""
    try:
        token = token_of(settings)
    except (OSError, UnicodeDecodeError):
        return None
    return mark_for(token)


def mark_for(token: str) -> Mark:
    return Mark(f"embedkit-canary={token}", {HEADER: token})
