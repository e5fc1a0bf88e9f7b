"""Durations as people write them: a number and its unit."""

import re

from ops.errors import OpsError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")


def seconds_of(text: str, flag: str) -> float:
    """ "50ms", "0.2s", "5m" → seconds.

    Raises:
        OpsError: it has no unit, an unknown one, or is not above 0; names the flag and what is allowed.
    """
    found = _FORM.fullmatch(text.strip().lower())
    if found is None or found[2] not in _SECONDS:
        raise OpsError(f"{flag} {text}: a number above 0 with its unit is needed ({', '.join(_SECONDS)}), such as 50ms")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if not seconds:
        raise OpsError(f"{flag} {text}: it has to be above 0")
    return seconds
