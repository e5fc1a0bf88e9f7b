"""What is to be served, written down before it is: the launcher reads it at every start, so that a crash never
brings back an older choice."""

from collections.abc import Mapping
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


@dataclass(frozen=True)
class Change:
    """One served archive on its way into another's place. A rollback goes to `back`, whichever way the change went: it
    served alone before a deploy began, or is what a rollback was to bring. `forth` is the other one."""

    back: Served
    forth: Served


def desired_file(settings: Settings) -> Path:
    return settings.state / "desired.json"


def previous_file(settings: Settings) -> Path:
    """What each model was served from before: where `embedkit rollback` goes back to."""
    return settings.state / "previous.json"


def rolled_back_file(settings: Settings) -> Path:
    """What each model was rolled back from: `embedkit up` does not bring it back by itself."""
    return settings.state / "rolled-back.json"


def changes_file(settings: Settings) -> Path:
    """The changes that have begun and not ended; the server's state alone does not say which way they went."""
    return settings.state / "changing.json"


def read_models(path: Path, key: str = "models") -> dict[str, Served]:
    """Model name → what is to be served; empty when nothing was written yet.

    Raises:
        OpsError: the file is not what this module writes.
    """
    try:
        models = {entry["model"]: known_to(Served, entry) for entry in read_state(path)[key]}
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


def write_models(path: Path, models: Mapping[str, Served]) -> None:
    _write(path, models=models)


def read_changes(settings: Settings) -> dict[str, Change]:
    """Model name → its change that has not ended.

    Raises:
        OpsError: as read_models.
    """
    back, forth = (read_models(changes_file(settings), key) for key in ("back", "forth"))
    return {name: Change(back[name], forth[name]) for name in back.keys() & forth.keys()}


def needed(settings: Settings) -> set[str]:
    """The archives that a restart or a rollback asks for."""
    served = [one for file in (desired_file, previous_file) for one in read_models(file(settings)).values()]
    return {one.archive for one in (*served, *(change.back for change in read_changes(settings).values()))}


def begin(settings: Settings, target: Served, *, rolling_back: bool = False) -> None:
    """Remember, before the server is touched, what a rollback goes to until `finish`; nothing where nothing changes.

    A change that comes before another has ended has the other's way back: that is what served alone last.
    """
    changes, current = read_changes(settings), read_models(desired_file(settings)).get(target.model)
    known = changes.get(target.model)
    if current is None or (known is None and current == target):
        return
    if rolling_back:
        change = known or Change(back=target, forth=current)
        if current == target != change.forth:  # it had not taken effect: no commit will say so
            _put(rolled_back_file(settings), target.model, change.forth)
    else:
        change = Change(back=known.back if known else current, forth=target)
    _write_changes(settings, {**changes, target.model: change})


def finish(settings: Settings, model: str) -> None:
    """One archive of the model is served alone, and desired."""
    changes = read_changes(settings)
    if changes.pop(model, None):
        _write_changes(settings, changes)


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
    finish(settings, model)


def _put(path: Path, model: str, one: Served | None) -> None:
    models = read_models(path)
    models.pop(model, None)
    write_models(path, models if one is None else {**models, model: one})


def _write_changes(settings: Settings, changes: Mapping[str, Change]) -> None:
    back, forth = ({name: getattr(one, key) for name, one in changes.items()} for key in ("back", "forth"))
    _write(changes_file(settings), back=back, forth=forth)


def _write(path: Path, **models: Mapping[str, Served]) -> None:
    write_state(path, {key: [asdict(of[name]) for name in sorted(of)] for key, of in models.items()})
