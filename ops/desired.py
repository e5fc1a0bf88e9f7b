"""What is to be served, written down before it is: the launcher reads it at every start, so that a crash never
brings back an older choice."""

from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from archives.store import write_whole
from ops.errors import OpsError
from ops.settings import Settings


@dataclass(frozen=True)
class Served:
    """One model of the desired state. `archive` is a file name in the store; `sha256` that file's digest."""

    model: str
    version: str
    archive: str
    sha256: str


def desired_file(settings: Settings) -> Path:
    return settings.state / "desired.json"


def applied_file(settings: Settings) -> Path:
    """The desired state that the running TorchServe was last given: what differs from desired is to be loaded."""
    return settings.state / "applied.json"


def read_models(path: Path) -> dict[str, Served]:
    """Model name → what is to be served; empty when nothing was written yet.

    Raises:
        OpsError: the file is not what this module writes.
    """
    try:
        entries = orjson.loads(path.read_bytes())["models"]
        models = {entry["model"]: Served(**entry) for entry in entries}
        for one in models.values():
            if not all(isinstance(value, str) for value in asdict(one).values()):
                raise TypeError(f"{one} is not all text")
        return models
    except FileNotFoundError:
        return {}
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise OpsError(
            f"{path} is damaged ({error}): remove it, then run `embedkit up` with the models' names"
        ) from error


def write_models(path: Path, models: dict[str, Served]) -> None:
    entries = [asdict(models[name]) for name in sorted(models)]
    write_whole(path, orjson.dumps({"models": entries}, option=orjson.OPT_INDENT_2))
