"""Canaries: what a user feels, and whether the vectors are still right."""

import logging
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

from ops.errors import OpsError
from ops.exporter.buckets import CANARY_SECONDS
from ops.exporter.families import Families
from ops.exporter.source import AbsentError, SourceError
from ops.gateway.program import socket_file
from ops.prepare import known_references
from ops.probe import Outcome, Probe, Reference, probe, probe_gateway
from ops.prober import Prober, Tried
from ops.settings import Settings
from ops.torchserve.launcher import in_force

log = logging.getLogger("embedkit.exporter")

TIMEOUT_S = 10.0
OUTCOMES: tuple[Outcome, ...] = ("ok", "wrong_vector", "refused", "timeout", "unreachable")


class CanaryCounts:
    """Everything that one model's canaries came to since the exporter started."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.last: Tried | None = None
        self.last_success_at = 0.0
        self.cosine: float | None = None
        self._counts = [0] * (len(CANARY_SECONDS) + 1)
        self._total_s = 0.0

    def hear(self, tried: Tried) -> None:
        self.last = tried
        self.outcomes[tried.probe.outcome] += 1
        self.cosine = tried.probe.cosine  # none came back: the one before says nothing of now
        if tried.probe.ok:
            self.last_success_at = tried.at
            self._counts[bisect_left(CANARY_SECONDS, tried.probe.latency_s)] += 1
            self._total_s += tried.probe.latency_s

    def add_to(self, families: Families, name: str, model: str, reference: Reference | None) -> None:
        """`reference` is what the model's canaries are compared with, None where there is nothing."""
        families.add_histogram(f"{name}_duration_seconds", CANARY_SECONDS, self._counts, self._total_s, model=model)
        for outcome in OUTCOMES:
            families.add(f"{name}_probes_total", self.outcomes[outcome], model=model, outcome=outcome)
        families.add(f"{name}_last_success_timestamp_seconds", self.last_success_at, model=model)
        if reference is None:
            families.add(f"{name}_success", 0, model=model)
        elif self.last is not None:
            families.add(f"{name}_success", self.last.probe.ok, model=model)

    def add_cosines(self, families: Families, model: str, reference: Reference | None) -> None:
        if reference is not None:
            families.add("canary_reference_cosine", reference.verified, model=model)
        if self.cosine is not None:
            families.add("canary_cosine", self.cosine, model=model)


class CanarySource:
    """The prober's outcomes for the models that are to be served."""

    name = "canary"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[str, CanaryCounts] = {}
        self._references: Mapping[str, Reference] = {}
        self._problem = ""
        self._lock = threading.Lock()
        self.prober = Prober(
            self._targets,
            self._probe,
            settings.canary_interval_s,
            self._hear,
        )
        self.errors: Counter[str] = Counter()

    def _probe(self, model: str, reference: Reference) -> Probe:
        return probe(self._settings, model, reference, TIMEOUT_S)

    def _targets(self) -> Mapping[str, Reference]:
        """The desired models whose archive was verified; of others no vector is known."""
        problem = ""
        references: dict[str, Reference] = {}
        try:
            desired, references = known_references(self._settings)
            unknown = sorted(set(desired) - set(references))
            if unknown:
                problem = f"{unknown[0]}: its archive was not verified here: run `embedkit up {unknown[0]}`"
        except (OpsError, OSError) as error:
            problem = str(error)
            desired = {}
        with self._lock:
            self._problem, self._references = problem, references
            for model in desired:
                self._models.setdefault(model, CanaryCounts())
            for model in set(self._models) - set(desired):
                del self._models[model]
        return references

    def _hear(self, tried: Tried) -> None:
        with self._lock:
            counts = self._models.get(tried.probe.model)
            if counts is None:
                return  # taken out of service meanwhile
            before = counts.last
            counts.hear(tried)
        if before is None or before.probe.error != tried.probe.error:
            log.warning("%s %s: %s", self.name, tried.probe.model, tried.probe.error or "the right vector")

    def last_tries(self) -> dict[str, Tried | None]:
        """Each model that is to be served, with its last canary.

        Raises:
            SourceError: it cannot be read what is to be served.
        """
        with self._lock:
            if self._problem and not self._models:
                raise SourceError("unreadable", self._problem)
            return {model: counts.last for model, counts in self._models.items()}

    def fetch(self, families: Families) -> None:
        with self._lock:
            if self._problem and not self._models:
                raise SourceError("unreadable", self._problem)
            if self._problem:
                self.errors["unreadable"] += 1
            for model, counts in self._models.items():
                self._add(families, model, counts)

    def _add(self, families: Families, model: str, counts: CanaryCounts) -> None:
        counts.add_to(families, self.name, model, self._references.get(model))
        counts.add_cosines(families, model, self._references.get(model))


class GatewayCanarySource(CanarySource):
    """The same through the users' door. The other ones go past it, as a broken door is no reason to end a server.

    Settings are read each time: a change of the gateway's does not restart the exporter.
    """

    name = "gateway_canary"

    def _probe(self, model: str, reference: Reference) -> Probe:
        try:
            return probe_gateway(in_force(self._settings), model, reference, TIMEOUT_S)
        except OpsError as error:
            return Probe(model, 0.0, None, str(error), "refused")

    def _targets(self) -> Mapping[str, Reference]:
        return super()._targets() if socket_file(self._settings).exists() else {}

    def fetch(self, families: Families) -> None:
        if not socket_file(self._settings).exists():
            raise AbsentError
        super().fetch(families)

    def _add(self, families: Families, model: str, counts: CanaryCounts) -> None:
        counts.add_to(families, self.name, model, self._references.get(model))
