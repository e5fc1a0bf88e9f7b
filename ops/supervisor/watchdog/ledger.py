"""What the watchdog has done, in a file that the exporter reads; the counts outlive the watchdog."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.settings import Settings
from ops.state_files import read_state, write_state
from ops.supervisor.watchdog.look import TORCHSERVE, Kind

Key = tuple[Kind, str]


def ledger_file(settings: Settings) -> Path:
    return settings.state / "watchdog.json"


@dataclass
class Ledger:
    """`at`: the last look in Unix time; `locked_out_s`: for how long another has held the deployment's lock by then,
    and `holder_stopped`: that one is stopped; `budgets`: what is left of those that were drawn on; `reviving`: model →
    (version, workers), written before a model is scaled to 0, so that it never stays there."""

    at: float = 0.0
    paused: bool = False
    actions: Counter[Key] = field(default_factory=Counter)
    budgets: Mapping[Key, int] = field(default_factory=dict)
    reviving: dict[str, tuple[str, int]] = field(default_factory=dict)
    locked_out_s: float = 0.0
    holder_stopped: bool = False

    def expect(self, models: Iterable[str], programs: Iterable[str]) -> None:
        """What can be acted on is counted from 0, so that a first action is an increase."""
        keys: list[Key] = [("restart_torchserve", TORCHSERVE)]
        for model in models:
            keys += [("end_worker", model), ("revive_model", model)]
        keys += [("start_program", program) for program in programs]
        for key in keys:
            self.actions.setdefault(key, 0)

    def write(self, file: Path) -> None:
        content = {
            "at": self.at,
            "paused": self.paused,
            "locked_out_s": self.locked_out_s,
            "holder_stopped": self.holder_stopped,
            "actions": [[*key, count] for key, count in self.actions.items()],
            "budgets": [[*key, left] for key, left in self.budgets.items()],
            "reviving": self.reviving,
        }
        write_state(file, content)


def read_ledger(file: Path) -> Ledger:
    """The ledger as it was last written; an empty one where there is none.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    try:
        content = read_state(file)
    except FileNotFoundError:
        return Ledger()
    return Ledger(
        at=float(content["at"]),
        paused=bool(content["paused"]),
        locked_out_s=float(content.get("locked_out_s", 0)),
        holder_stopped=bool(content.get("holder_stopped")),
        actions=Counter({(kind, target): count for kind, target, count in content["actions"]}),
        budgets={(kind, target): left for kind, target, left in content["budgets"]},
        reviving={model: (version, workers) for model, (version, workers) in content["reviving"].items()},
    )
