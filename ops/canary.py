"""The mark on the kit's own requests, by which they are told from users' and kept out of what counts as traffic.

It holds a secret of this deployment, so that nobody hides traffic behind it or is mistaken for it. TorchServe shows
the query in its access log and keeps it from the workers, which see the header.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from handlers.canary import HEADER
from ops.settings import Settings


@dataclass(frozen=True)
class Mark:
    """What a marked request carries: its whole query string, and headers."""

    query: str
    headers: Mapping[str, str]


def _token_file(settings: Settings) -> Path:
    return settings.state / "canary-token"


def token_of(settings: Settings) -> str:
    """This deployment's secret, made when it is first asked for.

    Raises OSError where it can be neither read nor written.
    """
    file = _token_file(settings)
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
    return Mark(f"embedkit-canary={token}", {HEADER: token})
