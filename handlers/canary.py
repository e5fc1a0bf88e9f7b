"""Requests by which the kit itself tries the service: they carry a secret that only this deployment knows."""

import hmac
import os
from collections.abc import Mapping

HEADER = "x-embedkit-canary"
TOKEN_VARIABLE = "EMBEDKIT_CANARY_TOKEN"  # noqa: S105 - the variable's name


def is_canary(headers: Mapping[str, str]) -> bool:
    """Whether this is no user's request; `headers` by lower-case name."""
    shown = headers.get(HEADER)
    if not shown:
        return False
    token = os.environ.get(TOKEN_VARIABLE, "")
    return bool(token) and hmac.compare_digest(shown.encode(), token.encode())
