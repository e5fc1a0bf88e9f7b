"""How many workers have ended with a version that was removed: those are no crashes, and an alert has to know."""

from pathlib import Path

from ops.settings import Settings
from ops.state_files import read_state, write_state


def _file(settings: Settings) -> Path:
    return settings.state / "removed-workers.json"


def removed_workers(settings: Settings) -> dict[str, int]:
    """Model → workers removed so far; what cannot be read counts as none."""
    try:
        content = read_state(_file(settings))
        workers = content.get("workers", content)  # without a schema the models stood at the top
        return {str(model): int(count) for model, count in workers.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def add_removed(settings: Settings, model: str, workers: int) -> None:
    counts = removed_workers(settings)
    write_state(_file(settings), {"workers": {**counts, model: counts.get(model, 0) + workers}})
