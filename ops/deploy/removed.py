"""How many workers have ended with a version that was removed: those are no crashes, and an alert has to know."""

from pathlib import Path

import orjson

from archives.store import write_whole
from ops.settings import Settings


def _file(settings: Settings) -> Path:
    return settings.state / "removed-workers.json"


def removed_workers(settings: Settings) -> dict[str, int]:
    """Model → workers removed so far; what cannot be read counts as none."""
    try:
        return {str(model): int(count) for model, count in orjson.loads(_file(settings).read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def add_removed(settings: Settings, model: str, workers: int) -> None:
    counts = removed_workers(settings)
    write_whole(_file(settings), orjson.dumps({**counts, model: counts.get(model, 0) + workers}))
