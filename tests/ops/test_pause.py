"""The maintenance switch."""

from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.pause import Pause, pause, pause_file, paused, resume
from ops.settings import Settings


def test_a_pause_lasts_until_its_end_or_resume(tmp_path: Path) -> None:
    """Without an end it lasts; with one it ends by itself; `resume` says whether it was on."""
    settings = Settings(var=tmp_path)
    assert paused(settings, 100) is None
    pause(settings, Pause("disks", 100))
    assert paused(settings, 1e9) == Pause("disks", 100)
    pause(settings, Pause("", 100, until=160))
    assert paused(settings, 159) == Pause("", 100, 160)
    assert paused(settings, 160) is None
    assert (resume(settings), resume(settings)) == (True, False)


def test_it_says_why_and_for_how_long() -> None:
    """For `embedkit status`."""
    assert Pause("disks", 0).said(5) == "the watchdog is paused until `embedkit resume`: disks"
    assert Pause("", 0, until=605).said(5) == "the watchdog is paused for 10 more min"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """With the way out."""
    settings = Settings(var=tmp_path)
    settings.state.mkdir()
    pause_file(settings).write_text("{")
    with pytest.raises(OpsError, match=r"pause\.json is damaged.*embedkit resume"):
        paused(settings, 0)
    assert resume(settings)
