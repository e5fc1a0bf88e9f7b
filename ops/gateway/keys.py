"""API keys: a file with a line a key, its SHA-256 and its name, which HAProxy reads as a map.

The file alone decides who comes in, whoever starts HAProxy. Where no key was ever made, its only line says so: `open`.
Without that line a key is needed, and without the file HAProxy does not start.

A key is 256 random bits, so nobody finds one from its digest by trying: a slow hash, as passwords need, would protect
nothing and cost every request its time. Comparing digests of such keys gives no time away that helps.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from archives.store import write_whole
from ops.errors import OpsError
from ops.settings import Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
DIGEST = re.compile(r"[0-9A-F]{64}")  # HAProxy's `hex` writes capitals
ANONYMOUS = "anonymous"  # how metrics and log call whoever comes through a gateway without keys
OPEN = "open"  # in place of the digests: nobody needs a key
_OPENING = f"{OPEN} {ANONYMOUS}"
HEADER = "# embedkit: API keys, SHA-256 and name. Made by `embedkit key`.\n"


def keys_file(settings: Settings) -> Path:
    return settings.gateway_keys or settings.state / "gateway-keys"


def digest_of(key: str) -> str:
    """How a key stands in the file."""
    return hashlib.sha256(key.encode()).hexdigest().upper()


def parse_keys(text: str, source: Path) -> dict[str, str] | None:
    """Name → digest; None where nobody needs a key.

    Raises:
        OpsError: a line is not a digest and a name, or stands there twice, or opens the gateway beside keys; says
            which, without its content.
    """
    found: dict[str, str] = {}
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if [line for _, line in lines] == [_OPENING]:
        return None
    for number, line in lines:
        if line.split()[0] == OPEN:
            raise OpsError(f"{source}, line {number}: it lets everybody in beside keys: remove the line")
        digest, _, name = line.partition(" ")
        if DIGEST.fullmatch(digest) is None or NAME.fullmatch(name) is None:
            raise OpsError(
                f"{source}, line {number}: a SHA-256 in capitals, a blank and a name are expected: remove the line, "
                "then make a key with `embedkit key add NAME`"
            )
        if name in found or digest in found.values():
            raise OpsError(f"{source}, line {number}: {name} or its digest stands there twice: remove the line")
        found[name] = digest
    return found


def read_keys(settings: Settings) -> dict[str, str] | None:
    """Name → digest; None where no key was ever made, and none is needed.

    Raises:
        OpsError: others may read or write the file, or it is not what `embedkit key` writes.
    """
    file = keys_file(settings)
    try:
        mode = file.stat().st_mode & 0o777
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise OpsError(f"{file} is no text: move it away, then make keys with `embedkit key add NAME`") from error
    except OSError as error:
        raise OpsError(
            f"{file}: {error.strerror}: EMBEDKIT_GATEWAY_KEYS has to name a file that this user can read"
        ) from error
    if mode & 0o077:
        raise OpsError(f"{file} has mode {mode:04o}, so others can use it: chmod 600 {file}")
    return parse_keys(text, file)


def entries(keys: Mapping[str, str] | None) -> str:
    """What HAProxy's map holds: a line a key; None: the one that lets everybody in."""
    return f"{_OPENING}\n" if keys is None else "".join(f"{digest} {name}\n" for name, digest in keys.items())


def write_keys(settings: Settings, keys: Mapping[str, str] | None) -> None:
    """Replace the file as a whole, for this user alone."""
    write_whole(keys_file(settings), (HEADER + entries(keys)).encode(), mode=0o600)


def open_unless_decided(settings: Settings) -> None:
    """Say in the file that nobody needs a key, where there is none: no key was ever made."""
    if not keys_file(settings).exists():
        write_keys(settings, None)


def with_new(keys: Mapping[str, str], name: str) -> tuple[dict[str, str], str]:
    """(the keys with one more, the key itself, which is nowhere else).

    Raises:
        OpsError: the name is taken, or not one.
    """
    if NAME.fullmatch(name) is None or name == ANONYMOUS:
        raise OpsError(f"{name!r} cannot name a key: 1 to 64 letters, digits, - _ . are allowed, but not {ANONYMOUS}")
    if name in keys:
        raise OpsError(f"there is a key named {name}: take another name, or `embedkit key revoke {name}` first")
    key = f"ek_{secrets.token_urlsafe(32)}"
    return {**keys, name: digest_of(key)}, key


def without(keys: Mapping[str, str], name: str) -> dict[str, str]:
    """The keys but this one.

    Raises:
        OpsError: there is none of that name.
    """
    if name not in keys:
        raise OpsError(f"there is no key named {name}; keys: {', '.join(keys) or 'none'}")
    return {known: digest for known, digest in keys.items() if known != name}
