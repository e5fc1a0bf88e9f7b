"""Read what the workers wrote about themselves: one JSON file a worker, and prometheus_client's multiprocess files."""

from dataclasses import dataclass
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector


@dataclass(frozen=True)
class WorkerCard:
    """What a worker took at its load: where it computes, in which precision, and why there."""

    pid: int
    model: str
    version: str
    device: str
    device_name: str
    dtype: str
    fingerprint: str
    reason: str


@dataclass(frozen=True)
class LastAnswer:
    """The last answered request of a model: when (Unix time) and how long its batch took, in seconds."""

    timestamp: float
    latency_s: float


def worker_cards(folder: Path) -> dict[int, WorkerCard]:
    """pid → card; a file that cannot be read is left out: it is being written, or its worker is gone."""
    cards = {}
    for path in folder.glob("worker-*.json"):
        try:
            content = orjson.loads(path.read_bytes())
            card = WorkerCard(**{name: content[name] for name in WorkerCard.__dataclass_fields__})
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            continue
        cards[card.pid] = card
    return cards


def last_answers(folder: Path) -> dict[str, LastAnswer]:
    """Model → its last answer, over all workers since TorchServe's start; empty while a file cannot be read."""
    if not any(folder.glob("*.db")):
        return {}
    values: dict[str, dict[str, float]] = {}
    collector = MultiProcessCollector(CollectorRegistry(), path=str(folder))  # type: ignore[no-untyped-call]
    try:
        families = list(collector.collect())  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - a file half-made or damaged: prometheus_client raises whatever it meets
        return {}
    for family in families:
        for sample in family.samples:
            if sample.name.startswith("embedding_last_answer_"):
                values.setdefault(sample.labels["model"], {})[sample.name] = sample.value
    return {
        model: LastAnswer(
            found["embedding_last_answer_timestamp_seconds"], found["embedding_last_answer_latency_seconds"]
        )
        for model, found in values.items()
        if len(found) == 2
    }
