"""What `embedkit status` makes of programs that do not run."""

from dataclasses import replace
from pathlib import Path

import pytest

from ops.exclusive import Holder
from ops.pause import pause_file
from ops.settings import Settings
from ops.status import _paused, _stopped, idle
from ops.supervisor.control import Program


@pytest.mark.parametrize(
    ("name", "wanted", "counts"),
    [
        ("torchserve", "auto", True),
        ("exporter", "auto", True),
        ("grafana", "auto", False),
        ("prometheus", "auto", False),
        ("prometheus", "on", True),
    ],
)
def test_a_program_that_was_not_promised_is_a_note(name: str, wanted: str, counts: bool) -> None:
    """An observer that runs where it can does not make the service's status bad; one that is `on` does."""
    settings = Settings.model_validate({"prometheus": wanted})
    programs = [Program("one", "RUNNING", 1, 1, 1, 0, "", ""), Program(name, "FATAL", 0, 0, 0, 1, "", "a.log")]
    said = (f"{name} is FATAL: `supervisorctl start {name}`, log a.log",)
    assert idle(programs, settings) == ((said, ()) if counts else ((), said))


def test_a_damaged_pause_is_a_note(tmp_path: Path) -> None:
    """The first look at a service that is in trouble must not end at the maintenance switch."""
    settings = Settings(var=tmp_path)
    settings.state.mkdir()
    pause_file(settings).write_text("{")
    (said,) = _paused(settings, 0)
    assert "pause.json is damaged" in said
    assert "embedkit resume" in said


def test_a_command_that_stands_still_with_the_lock_is_a_note() -> None:
    """With what lets it go on; one that works is none."""
    holder = Holder("embedkit up (pid 7)", 7, 0.0, stopped=True)
    (note,) = _stopped(holder)
    assert note.startswith("the watchdog does not act: embedkit up (pid 7) is stopped")
    assert "`kill -CONT 7` lets it go on" in note
    assert list(_stopped(replace(holder, stopped=False))) == list(_stopped(None)) == []
