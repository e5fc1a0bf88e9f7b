"""What the watchdog has done, from its ledger."""

from collections import Counter

from ops.exporter.families import Families
from ops.exporter.source import SourceError
from ops.settings import Settings
from ops.supervisor.watchdog.ledger import Ledger, ledger_file, read_ledger


def map_ledger(ledger: Ledger, families: Families) -> None:
    families.add("watchdog_last_look_timestamp_seconds", ledger.at)
    families.add("watchdog_paused", ledger.paused)
    families.add("watchdog_locked_out_seconds", ledger.locked_out_s)
    families.add("watchdog_lock_holder_stopped", ledger.holder_stopped)
    for (action, target), count in ledger.actions.items():
        families.add("watchdog_actions_total", count, action=action, target=target)
    for (action, target), left in ledger.budgets.items():
        families.add("watchdog_budget_remaining", left, action=action, target=target)


class WatchdogSource:
    """The ledger; a watchdog that has never looked is one whose last look was at 0."""

    name = "watchdog"

    def __init__(self, settings: Settings) -> None:
        self._file = ledger_file(settings)
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        try:
            map_ledger(read_ledger(self._file), families)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError("unreadable", f"{self._file}: {error}") from error
