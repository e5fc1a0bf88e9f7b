"""What each running program was last started with, or told to read again.

Written once a program has taken it, not when the files are: an `up` that ended halfway leaves the rest to the next one.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from archives.store import held
from ops.settings import EXPORTERS_OWN, GATEWAYS_OWN, OBSERVERS_OWN, Settings
from ops.state_files import read_state, write_state


def inputs(settings: Settings, files: Mapping[str, Mapping[Path, str]]) -> dict[str, str]:
    """Program → a digest of all that it reads when it starts; `files` are those of the observers that run."""
    values = settings.model_dump(mode="json")
    exporter = {name: value for name, value in values.items() if name not in OBSERVERS_OWN | GATEWAYS_OWN}
    torchserve = {name: value for name, value in exporter.items() if name not in EXPORTERS_OWN}
    read: dict[str, object] = {"exporter": exporter, "torchserve": torchserve, "watchdog": torchserve}
    for observer, contents in files.items():
        read[observer] = {str(path): text for path, text in contents.items()}
    return {
        name: hashlib.sha256(orjson.dumps(one, option=orjson.OPT_SORT_KEYS)).hexdigest() for name, one in read.items()
    }


class Taken:
    """The programs' digests, beside what they have to be."""

    def __init__(self, settings: Settings, wanted: Mapping[str, str]) -> None:
        self._file = settings.state / "taken.json"
        self._wanted = wanted
        self._taken = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            return read_state(self._file)
        except (FileNotFoundError, ValueError):
            return {}

    def stale(self) -> list[str]:
        """The programs that run, if they do, with something else."""
        return [name for name in self._wanted if self._taken.get(name) != self._wanted[name]]

    def mark(self, names: Iterable[str]) -> None:
        """These have taken it, or do not run and will when they start."""
        new = {name: self._wanted[name] for name in names if name in self._wanted}
        with held(self._file.with_suffix(".lock")):  # `embedkit key` marks the gateway while `up` marks others
            self._taken = self._read() | new
            write_state(self._file, self._taken)
