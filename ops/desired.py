"""What is to be served, written down before it is: the launcher reads it at every start, so that a crash never
brings back an older choice."""

from dataclasses import asdict, dataclass
from pathlib import Path

from ops.errors import OpsError
from ops.settings import Settings
from ops.state_files import known_to, read_state, write_state


@dataclass(frozen=True)
class Served:
    """One model of the desired state. `archive` is a file name in the store; `sha256` that file's digest."""

    model: str
    version: str
    archive: str
    sha256: str


def desired_file(settings: Settings) -> Path:
    return settings.state / "desired.json"


def previous_file(settings: Settings) -> Path:
    """What each model was served from before: where `embedkit rollback` goes back to."""
    return settings.state / "previous.json"


def rolled_back_file(settings: Settings) -> Path:
    """What each model was rolled back from: `embedkit up` does not bring it back by itself."""
    return settings.state / "rolled-back.json"


def read_models(path: Path) -> dict[str, Served]:
    """Model name → what is to be served; empty when nothing was written yet.

    Raises:
        OpsError: the file is not what this module writes.
    """
    try:
        models = {entry["model"]: known_to(Served, entry) for entry in read_state(path)["models"]}
        for one in models.values():
            if not all(isinstance(value, str) for value in asdict(one).values()):
                raise TypeError(f"{one} is not all text")
        return models
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise OpsError(
            f"{path} is damaged ({error}): remove it, then run `embedkit up` with the models' names"
        ) from error


def write_models(path: Path, models: dict[str, Served]) -> None:
    write_state(path, {"models": [asdict(models[name]) for name in sorted(models)]})


def commit(settings: Settings, target: Served, *, rolling_back: bool = False) -> None:
    """Make this what is to be served of its model, and remember what was; nothing where it is so already.

    The desired state goes last: an end in between leaves the old choice, with less to go back to.
    """
    desired = read_models(desired_file(settings))
    current = desired.get(target.model)
    if current == target:
        return
    if current is not None:
        _put(previous_file(settings), current.model, current)
        _put(rolled_back_file(settings), current.model, current if rolling_back else None)
    write_models(desired_file(settings), {**desired, target.model: target})


def forget(settings: Settings, model: str) -> None:
    """The model is taken out of service: nothing of it is to be gone back to."""
    for path in (previous_file(settings), rolled_back_file(settings)):
        _put(path, model, None)


def _put(path: Path, model: str, one: Served | None) -> None:
    models = read_models(path)
    models.pop(model, None)
    write_models(path, models if one is None else {**models, model: one})
