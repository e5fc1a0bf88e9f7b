"""Read what the workers wrote about themselves: one JSON file a worker, and prometheus_client's multiprocess files.

The counts of a worker outlive it: its files stay until the server starts anew, and the exporter folds those of dead
workers into one, so that they do not pile up.
"""

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.mmap_dict import MmapedDict

from archives.store import write_whole

FOLDED = "folded.json"
_KINDS = ("histogram", "counter", "gauge_mostrecent")

# Kind of file → key as prometheus_client writes it → (value, Unix time of a gauge's value).
Values = dict[str, dict[str, tuple[float, float]]]


@dataclass(frozen=True)
class WorkerCard:
    """What a worker took at its load: where it computes, in which precision, and why there.

    `max_request_tokens`: what it takes in a request of full-length texts; None for one of an older archive.
    """

    pid: int
    model: str
    version: str
    device: str
    device_name: str
    backend: str
    dtype: str
    fingerprint: str
    reason: str
    max_request_tokens: int | None = None


@dataclass(frozen=True)
class LastAnswer:
    """The last answered request of a model: when (Unix time) and how long its batch took, in seconds."""

    timestamp: float
    latency_s: float


@dataclass(frozen=True)
class Sample:
    """One value. `metric` is the family, `name` what a histogram's parts are called."""

    metric: str
    name: str
    labels: Mapping[str, str]
    value: float


@dataclass
class Measured:
    """What all workers since the server's start have measured together; `damaged` could not be read."""

    values: Values = field(default_factory=lambda: {kind: {} for kind in _KINDS})
    damaged: list[Path] = field(default_factory=list)

    def samples(self) -> Iterator[Sample]:
        """All of them as Prometheus has them: buckets count what is below them, and each histogram has a _count."""
        buckets: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[float, str, float]]] = {}
        for values in self.values.values():
            for key, (value, _) in values.items():
                metric, name, labels = _parsed(key)
                if "le" not in labels:
                    yield Sample(metric, name, labels, value)
                    continue
                others = tuple(pair for pair in labels.items() if pair[0] != "le")
                buckets.setdefault((metric, others), []).append((float(labels["le"]), labels["le"], value))
        for (metric, others), found in buckets.items():
            below = 0.0
            for _, bound, count in sorted(found):
                below += count
                yield Sample(metric, f"{metric}_bucket", {**dict(others), "le": bound}, below)
            yield Sample(metric, f"{metric}_count", dict(others), below)


class DamagedFileError(ValueError):
    """A file is not what a worker writes."""


@lru_cache(maxsize=65536)
def _parsed(key: str) -> tuple[str, str, Mapping[str, str]]:
    metric, name, labels, _ = orjson.loads(key)
    if not (isinstance(metric, str) and isinstance(name, str) and isinstance(labels, dict)):
        raise TypeError(key)
    float(labels.get("le", "0"))
    return metric, name, labels


def read_file(path: Path) -> dict[str, tuple[float, float]]:
    """The values of one multiprocess file.

    Raises:
        DamagedFileError: it is not such a file.
        FileNotFoundError: it is gone.
    """
    found = {}
    try:
        with path.open("rb") as file:
            (used,) = struct.unpack("i", file.read(4))
        if used < 0:
            raise DamagedFileError(f"{path}: {used} bytes in use")
        for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            _parsed(key)
            if not (math.isfinite(value) and value >= 0 and math.isfinite(timestamp)):
                raise DamagedFileError(f"{path}: {key} is {value}")
            found[key] = (value, timestamp)
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, struct.error, ValueError, TypeError) as error:
        raise DamagedFileError(f"{path}: {error}") from error
    return found


def _kind_and_pid(path: Path) -> tuple[str, int] | None:
    kind, _, pid = path.stem.rpartition("_")
    return (kind, int(pid)) if kind in _KINDS and pid.isdecimal() else None


def _add(values: Values, kind: str, more: Mapping[str, tuple[float, float]]) -> None:
    into = values[kind]
    for key, (value, timestamp) in more.items():
        old, old_timestamp = into.get(key, (0.0, 0.0))
        if not kind.startswith("gauge"):
            into[key] = (old + value, 0.0)
        elif timestamp >= old_timestamp:
            into[key] = (value, timestamp)


class WorkerFiles:
    """The multiprocess files of one folder. Of a file that was sound once and is damaged now, the last values stay."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sound: dict[Path, dict[str, tuple[float, float]]] = {}
        self._sound_fold: dict[str, Any] = {}

    def read(self) -> Measured:
        """Everything together, folded and living."""
        return self._read(lambda _: False)[0]

    def _read(self, folds: Callable[[int], bool]) -> tuple[Measured, Measured, list[Path]]:
        """All files; what folding would leave in one; and the files that it takes in."""
        measured = Measured()
        fold = self._fold(measured)
        folded = Measured()
        for kind, values in fold.get("values", {}).items():
            _add(measured.values, kind, {key: tuple(pair) for key, pair in values.items()})
            _add(folded.values, kind, {key: tuple(pair) for key, pair in values.items()})
        taken, there = [], {}
        for path in sorted(self._folder.glob("*.db")):
            known = _kind_and_pid(path)
            if known is None or path.name in fold.get("files", ()):
                continue
            kind, pid = known
            dead = folds(pid)  # asked first: what is read of a dead worker is its last word
            try:
                values = read_file(path)
                if not values and self._sound.get(path):
                    raise DamagedFileError(f"{path} has lost everything")
            except FileNotFoundError:
                continue
            except DamagedFileError:
                measured.damaged.append(path)
                values, dead = self._sound.get(path, {}), False
            there[path] = values
            _add(measured.values, kind, values)
            if dead:
                _add(folded.values, kind, values)
                taken.append(path)
        self._sound = there
        return measured, folded, taken

    def _fold(self, measured: Measured) -> dict[str, Any]:
        path = self._folder / FOLDED
        try:
            content = orjson.loads(path.read_bytes())
            for kind in content["values"]:
                for key, (value, timestamp) in content["values"][kind].items():
                    _parsed(key)
                    if kind not in _KINDS or not math.isfinite(value + timestamp):
                        raise DamagedFileError(key)
            content["files"] = list(content["files"])
            self._sound_fold = content
        except FileNotFoundError:
            self._sound_fold = {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            measured.damaged.append(path)
        return self._sound_fold

    def read_and_fold(self, alive: Callable[[int], bool]) -> Measured:
        """The same, and the files of workers that are not `alive` become one.

        Names go into the fold before their files go, and out of it afterwards: whenever this is interrupted, each
        count is there once, and a later worker may have the number of a dead one.
        """
        living: dict[int, bool] = {}

        def dead(pid: int) -> bool:
            if pid not in living:
                living[pid] = alive(pid)
            return not living[pid]

        measured, folded, taken = self._read(dead)
        leftover = self._sound_fold.get("files", [])
        if taken or leftover:
            names = [*leftover, *(path.name for path in taken)]
            self._write(folded, names)
            for name in names:
                (self._folder / name).unlink(missing_ok=True)
            self._write(folded, [])
        for path in self._folder.glob("worker-*.json"):
            pid = path.stem.removeprefix("worker-")
            if pid.isdecimal() and dead(int(pid)):
                path.unlink(missing_ok=True)
        return measured

    def _write(self, folded: Measured, names: list[str]) -> None:
        write_whole(self._folder / FOLDED, orjson.dumps({"files": names, "values": folded.values}))


def worker_cards(folder: Path) -> dict[int, WorkerCard]:
    """pid → card; a file that cannot be read is left out: it is being written, or its worker is gone."""
    cards = {}
    for path in folder.glob("worker-*.json"):
        try:
            content = orjson.loads(path.read_bytes())
            card = WorkerCard(**{name: content[name] for name in WorkerCard.__dataclass_fields__ if name in content})
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            continue
        cards[card.pid] = card
    return cards


def last_answers(folder: Path) -> dict[str, LastAnswer]:
    """Model → its last answer to a user, over all workers since TorchServe's start."""
    values: dict[str, dict[str, float]] = {}
    for sample in WorkerFiles(folder).read().samples():
        if sample.name.startswith("embedding_last_answer_"):
            values.setdefault(sample.labels["model"], {})[sample.name] = sample.value
    return {
        model: LastAnswer(
            found["embedding_last_answer_timestamp_seconds"], found["embedding_last_answer_latency_seconds"]
        )
        for model, found in values.items()
        if len(found) == 2 and found["embedding_last_answer_timestamp_seconds"] > 0
    }


def is_busy(folder: Path, pid: int) -> bool | None:
    """Whether a worker has a batch now; None where it does not tell."""
    try:
        values = read_file(folder / f"gauge_mostrecent_{pid}.db")
    except (FileNotFoundError, DamagedFileError):
        return None
    begun = [value for key, (value, _) in values.items() if _parsed(key)[0] == "embedkit_batch_begun_seconds"]
    return any(begun) if begun else None
