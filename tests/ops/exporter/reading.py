"""Families as tests look at them."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from ops.exporter.families import Families

Series = tuple[str, frozenset[tuple[str, str]]]


def samples(families: Families) -> Mapping[Series, float]:
    """(sample's name, labels) → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(families: Families, name: str, /, **labels: str) -> float | None:
    """One sample's value, None where it is not there."""
    return samples(families).get((name, frozenset(labels.items())))


class _Fixed(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return list(self._families)


def text(families: Families) -> str:
    """As Prometheus gets it."""
    registry = CollectorRegistry()
    registry.register(_Fixed(families))
    return generate_latest(registry).decode()
