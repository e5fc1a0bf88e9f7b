"""The maintenance switch: while it is on, the watchdog looks and does not act."""

from dataclasses import asdict, dataclass
from pathlib import Path

from ops.errors import OpsError
from ops.settings import Settings
from ops.state_files import known_to, read_state, write_state


@dataclass(frozen=True)
class Pause:
    """Times in Unix seconds; without `until` it lasts until `embedkit resume`."""

    reason: str
    since: float
    until: float | None = None

    def said(self, now: float) -> str:
        """A sentence for people."""
        left = "until `embedkit resume`" if self.until is None else f"for {max(0, self.until - now) / 60:.0f} more min"
        return f"the watchdog is paused {left}{f': {self.reason}' if self.reason else ''}"


def pause_file(settings: Settings) -> Path:
    return settings.state / "pause.json"


def pause(settings: Settings, made: Pause) -> None:
    """Switch it on, in place of an earlier pause."""
    write_state(pause_file(settings), asdict(made))


def resume(settings: Settings) -> bool:
    """Switch it off; returns whether it was on."""
    try:
        pause_file(settings).unlink()
    except FileNotFoundError:
        return False
    return True


def paused(settings: Settings, now: float) -> Pause | None:
    """The pause that is in force at `now`.

    Raises:
        OpsError: its file is not what this module writes.
    """
    file = pause_file(settings)
    try:
        found = known_to(Pause, read_state(file))
        return None if found.until is not None and found.until <= now else found
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise OpsError(f"{file} is damaged ({error}): `embedkit resume` removes it") from error
