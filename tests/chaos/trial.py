"""One fault under load: what there was before, the moment it struck, and what came after."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.chaos import site
from tests.chaos.ledger import Toll, toll
from tests.chaos.load import Load
from tests.chaos.table import Row
from tests.e2e.stack import Stack

CALM_S = 3.0


class Trial:
    """A `with` block with load on the service. `struck` is when the fault came, in monotonic seconds."""

    def __init__(self, stack: Stack, record: Callable[[Row], object], url: str = "", **load: Any) -> None:
        self.stack = stack
        self._record = record
        self.load = Load(url or stack.url(), **load)
        self.struck = 0.0

    def __enter__(self) -> Self:
        self.load.__enter__()
        try:
            if self.load.connections:
                self.load.settled()
            self.before = site.footprint(self.stack)
            self._acted = site.watchdog_actions(self.stack)
        except BaseException as error:
            self.load.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            time.sleep(CALM_S)
        self.load.__exit__(kind, error, at)

    def strike(self, fault: Callable[[], object]) -> None:
        self.struck = time.monotonic()
        fault()

    def serving(self, within_s: float) -> float:
        return site.serving_again(self.stack, self.struck, within_s)

    def full_strength(self, within_s: float, without: frozenset[int] = frozenset()) -> float:
        return site.wait(
            lambda: site.at_full_strength(self.stack, without=without), self.struck, within_s, "all workers are there"
        )

    @property
    def toll(self) -> Toll:
        return toll(self.load.entries, self.struck)

    def watchdog(self) -> str:
        """What the watchdog did since the block began, in words."""
        acted = site.watchdog_actions(self.stack) - self._acted
        return ", ".join(f"{action} {target} ×{count}" for (action, target), count in sorted(acted.items()))

    def row(self, order: int, fault: str, bar: str, *, met: bool, note: str = "", **figures: Any) -> Row:
        """Keep what was found, once the load has ended; a missed bar, a wrong vector or an orphan fails the test."""
        cost, orphans, ports = self.toll, site.orphans(self.stack), site.lost_ports(self.stack)
        acted = self.watchdog()
        notes = [note] if note else []
        notes += [f"watchdog: {acted}"] if acted else []
        row = Row(
            order,
            fault,
            bar,
            met and not self.load.wrong and not orphans and not ports,
            open_then=cost.open_then,
            open_failed=cost.open_failed,
            refused=cost.refused,
            lost=cost.lost,
            wrong=self.load.wrong,
            checked=self.load.checked,
            orphans=len(orphans),
            ports=ports,
            memory_before=self.before.memory // site.MB,
            memory_after=site.memory(self.stack) // site.MB,
            note="; ".join(notes),
            **figures,
        )
        self._record(row)
        assert row.met, f"{row}\n{cost}\n{self.load.said}"
        return row


def plain_start(stack: Stack, record: Callable[[Row], None]) -> tuple[Trial, float, float]:
    """Start a stopped TorchServe under the load: the trial, and the seconds until it serves and is whole."""
    trial = Trial(stack, record)
    starter = threading.Thread(target=stack.supervisorctl, args=("start", "torchserve"))
    with trial:
        stack.supervisorctl("stop", "torchserve")
        trial.strike(starter.start)
        took, full = trial.serving(60), trial.full_strength(60)
    starter.join()
    return trial, took, full
