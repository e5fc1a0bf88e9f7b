"""What the workers measured, dead ones included, and what the living are."""

from collections import Counter

import psutil

from ops.exporter.families import FAMILIES, Families
from ops.exporter.source import SourceError
from ops.settings import Settings
from ops.telemetry import Measured, WorkerCard, WorkerFiles, worker_cards
from ops.torchserve.leftovers import is_worker


def map_measured(measured: Measured, families: Families) -> None:
    """The workers' own families; a name that they do not have is not given on."""
    by_family: dict[str, list[tuple[str, dict[str, str], float]]] = {}
    for sample in measured.samples():
        # A counter's file calls the family by its name without _total.
        name = sample.metric if sample.metric in FAMILIES else f"{sample.metric}_total"
        family = FAMILIES.get(name)
        if family is None or family.source != "workers" or set(sample.labels) - {"le"} != set(family.labels):
            continue
        by_family.setdefault(name, []).append((sample.name, dict(sample.labels), sample.value))
    for name, samples in by_family.items():
        families.add_samples(name, samples)


def map_cards(cards: list[WorkerCard], families: Families) -> None:
    kinds = {(one.model, one.version, one.device, one.backend, one.dtype, one.fingerprint) for one in cards}
    for model, version, device, backend, dtype, fingerprint in sorted(kinds):
        families.add(
            "embedding_model_info", 1,
            model=model, version=version, device=device, backend=backend, dtype=dtype, fingerprint=fingerprint,
        )  # fmt: skip


class WorkersSource:
    """The telemetry folder; files of dead workers are folded in passing."""

    name = "workers"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files = WorkerFiles(settings.telemetry)
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        try:
            measured = self._files.read_and_fold(self._alive)
        except OSError as error:
            raise SourceError("failed", f"{error.filename}: {error.strerror}") from error
        self.errors["damaged_file"] += len(measured.damaged)
        map_measured(measured, families)
        map_cards([card for pid, card in worker_cards(self._settings.telemetry).items() if self._alive(pid)], families)

    def _alive(self, pid: int) -> bool:
        try:
            return is_worker(psutil.Process(pid).cmdline(), self._settings)
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True  # not ours to look at: then it is not ours to fold either
