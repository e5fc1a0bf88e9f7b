"""Which characters no path of the kit may have: some program would read another path there, often without a word.
Standard library only.

What stays allowed works in each file and on each command line that is rendered; tests/ops/test_paths.py asks the
programs themselves.
"""

import unicodedata
from collections.abc import Mapping
from pathlib import Path

_MEANT_FOR: Mapping[str, str] = {
    **dict.fromkeys('"\\%;#', "supervisord"),
    **dict.fromkeys(",'", "HAProxy"),
    "$": "HAProxy",  # and for log4j, systemd, the environment's activate script
    **dict.fromkeys("*?[", "Prometheus"),  # patterns: it finds no rules, or those of another folder
    "`": "the environment's activate script",
}
_OF_THE_CLASS_PATH = {":": "Java's class path"}


def refusal(path: Path, *, checkout: bool = False) -> str:
    """Why the kit cannot use this path, in words; empty where it can. Below `checkout` lie Java's classes too."""
    means = {**_MEANT_FOR, **_OF_THE_CLASS_PATH} if checkout else _MEANT_FOR
    for char in str(path):
        if char in means:
            return f"{str(path)!r} has the character {char!r}, which means something to {means[char]}"
        if unicodedata.category(char) in {"Cc", "Cs"}:  # control characters, and bytes that are no UTF-8
            return f"{str(path)!r} has the character {char!r}, which no configuration can hold"
    return ""
