"""What a look does about the lock that keeps the watchdog from acting."""

from pathlib import Path

import pytest

from ops.exclusive import exclusive, lock_file
from ops.exporter.families import Families
from ops.exporter.sources.watchdog import WatchdogSource
from ops.settings import Settings
from ops.supervisor.watchdog.clock import TICK_S, LookingTime
from ops.supervisor.watchdog.look import Look
from ops.supervisor.watchdog.watch import Watch
from tests.ops.exporter.reading import value
from tests.ops.test_exclusive import held, stop


@pytest.mark.timeout(60)
def test_a_command_that_stands_still_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """How long another has the lock and that it stands still, as metrics and once in the log; nothing once it ends."""
    settings, seconds = Settings(var=tmp_path), 0.0
    watch = Watch(settings)
    watch._time = LookingTime(lambda: seconds)
    monkeypatch.setattr(watch._eyes, "look", lambda: Look({}))

    def looks(count: int) -> tuple[float | None, float | None]:
        nonlocal seconds
        for _ in range(count):
            seconds += TICK_S
            watch.tick()
        families = Families()
        WatchdogSource(settings).fetch(families)
        return value(families, "watchdog_locked_out_seconds"), value(families, "watchdog_lock_holder_stopped")

    assert looks(3) == (0, 0)
    with held(lock_file(settings)) as command:
        assert looks(4) == (4 * TICK_S, 0)
        assert "deploy minilm" not in caplog.text
        stop(command)
        assert looks(20) == (24 * TICK_S, 1)
        assert caplog.text.count(f"does not act: embedkit deploy minilm (pid {command.pid}) is stopped") == 1
    with exclusive(lock_file(settings), print):  # the other has ended
        pass
    assert looks(1) == (0, 0)
