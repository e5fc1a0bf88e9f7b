"""What the watchdog writes down, and what the exporter makes of it."""

import errno
from collections import Counter
from pathlib import Path

import pytest

from ops.exporter.families import Families
from ops.exporter.source import SourceError
from ops.exporter.sources.watchdog import WatchdogSource
from ops.settings import Settings
from ops.supervisor.watchdog.ledger import Ledger, ledger_file, read_ledger
from ops.supervisor.watchdog.watch import Watch
from tests.ops.exporter.reading import samples, value


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Counts, budgets and an unfinished revival outlive the watchdog."""
    ledger = Ledger(5.0, True, Counter({("end_worker", "m"): 3}), {("end_worker", "m"): 7}, {"m": ("1.0", 2)})
    ledger.write(tmp_path / "ledger.json")
    assert read_ledger(tmp_path / "ledger.json") == ledger
    assert read_ledger(tmp_path / "none.json") == Ledger()


def test_metrics_begin_at_0(tmp_path: Path) -> None:
    """Every action that can be taken has its series before the first, so that this one is an increase."""
    settings = Settings(var=tmp_path)
    ledger = Ledger(at=17.0, budgets={("revive_model", "m"): 9})
    ledger.expect(["m"], ["exporter"])
    ledger.actions["revive_model", "m"] += 1
    ledger.write(ledger_file(settings))
    families = Families()
    WatchdogSource(settings).fetch(families)
    counts = {
        (dict(labels)["action"], dict(labels)["target"]): count
        for (name, labels), count in samples(families).items()
        if name == "watchdog_actions_total"
    }
    assert counts == {
        ("restart_torchserve", "torchserve"): 0,
        ("end_worker", "m"): 0,
        ("revive_model", "m"): 1,
        ("start_program", "exporter"): 0,
    }
    assert value(families, "watchdog_budget_remaining", action="revive_model", target="m") == 9
    assert value(families, "watchdog_last_look_timestamp_seconds") == 17
    assert value(families, "watchdog_paused") == 0


def test_a_watchdog_that_never_looked_is_seen(tmp_path: Path) -> None:
    """No ledger is a last look at 0; a damaged one is a source that is down."""
    settings, families = Settings(var=tmp_path), Families()
    WatchdogSource(settings).fetch(families)
    assert value(families, "watchdog_last_look_timestamp_seconds") == 0
    settings.state.mkdir()
    ledger_file(settings).write_text("{}")
    with pytest.raises(SourceError):
        WatchdogSource(settings).fetch(families)


def test_a_full_disk_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at each look, on the very disk that is full; and again when it is full anew."""

    def full(ledger: Ledger, file: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    watch = Watch(Settings(var=tmp_path))
    write = Ledger.write
    for writes in (full, full, write, full):
        monkeypatch.setattr(Ledger, "write", writes)
        watch._say("look", None, "watches")
        watch._tell(paused=False)
    assert caplog.text.count("No space left") == 2
    assert "watches" not in caplog.text
