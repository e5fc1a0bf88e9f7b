"""One scrape over sources that answer, fail, hang or are not there."""

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ops.exporter.collector import ExporterCollector
from ops.exporter.families import FAMILIES, SOURCES, Families, empty
from ops.exporter.source import AbsentError, SourceError

BUILD = {"version": "1", "python": "3.11", "flavour": "cpu"}


class Answering:
    """A source that does what it is told, and counts how often it is asked."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name, self.error, self.asked = name, error, 0
        self.errors: Counter[str] = Counter()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def fetch(self, families: Families) -> None:
        self.asked += 1
        self.may_answer.wait(30)
        if self.error is not None:
            raise self.error
        families.add("host_cpus", 2)


@contextmanager
def hanging(name: str) -> Iterator[Answering]:
    source = Answering(name)
    source.may_answer.clear()
    yield source
    source.may_answer.set()


def scraped(collector: ExporterCollector) -> dict[str, float]:
    """Sample with its labels, as written → value."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(number) for name, number in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_registering_asks_no_source() -> None:
    """describe() knows every family without looking, and no two have a name in common."""
    source = Answering("host")
    registry = CollectorRegistry()
    registry.register(ExporterCollector([source], BUILD))
    assert source.asked == 0
    described = [metric.name for metric in ExporterCollector([source], BUILD).describe()]
    assert len(described) == len(set(described)) == len(FAMILIES)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(SourceError("unreachable", "nobody"), "unreachable"), (RuntimeError("a bug"), "failed"), (OSError(), "failed")],
)
def test_a_source_that_fails_costs_its_own_families(error: Exception, kind: str) -> None:
    """It is down and counted by kind; the other is given."""
    found = scraped(ExporterCollector([Answering("management", error), Answering("host")], BUILD))
    assert found['embedkit_source_up{source="management"}'] == 0
    assert found[f'embedkit_source_errors_total{{kind="{kind}",source="management"}}'] == 1
    assert found["torchserve_up"] == 0
    assert found['embedkit_source_up{source="host"}'] == 1
    assert found["host_cpus"] == 2


def test_a_source_that_hangs_costs_the_deadline_once_asked() -> None:
    """Scrapes end at the deadline, the hung source is not asked again meanwhile, and comes back by itself."""
    with hanging("management") as hung:
        collector = ExporterCollector([hung, Answering("host")], BUILD, deadline_s=0.1)
        for _ in range(3):
            started = time.monotonic()
            found = scraped(collector)
            assert time.monotonic() - started < 0.5
            assert found['embedkit_source_up{source="management"}'] == 0
            assert found["host_cpus"] == 2
        assert hung.asked == 1
        assert sum(thread.name == "management" for thread in threading.enumerate()) == 1
        assert found['embedkit_source_errors_total{kind="timeout",source="management"}'] == 3
    for _ in range(50):
        if scraped(collector)['embedkit_source_up{source="management"}'] == 1:
            return
        time.sleep(0.02)
    pytest.fail("the source did not come back")


def test_two_scrapes_at_once_ask_once() -> None:
    """A second scrape shares the first one's question."""
    with hanging("host") as slow:
        collector = ExporterCollector([slow], BUILD, deadline_s=5)
        results: list[dict[str, float]] = []
        threads = [threading.Thread(target=lambda: results.append(scraped(collector))) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        slow.may_answer.set()
        for thread in threads:
            thread.join()
    assert [one["host_cpus"] for one in results] == [2, 2]
    assert slow.asked == 1


def test_what_is_absent_by_design_is_not_down() -> None:
    """No driver: no source, no alarm."""
    found = scraped(ExporterCollector([Answering("nvml", AbsentError())], BUILD))
    assert [name for name in found if "nvml" in name] == []


def test_only_what_the_table_has_is_given() -> None:
    """A name or a label that is not in it is a mistake in the code, told at once."""
    with pytest.raises(KeyError):
        Families().add("nonsense", 1)
    with pytest.raises(ValueError, match="labels"):
        Families().add("torchserve_queue_length", 1, name="m")
    assert {one.source for one in FAMILIES.values()} == {*SOURCES, "exporter"}


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing_to_say() -> None:
    """`promtool check metrics` on every family of the table, a sample each."""
    families = Families()
    for family in FAMILIES.values():
        labels = dict.fromkeys(family.labels, "x")
        if family.kind == "histogram":
            families.add_histogram(family.name, [1.0], [1, 1], 3.0, **labels)
        else:
            families.add(family.name, 1, **labels)
        assert empty(family).documentation
    registry = CollectorRegistry()

    class All(ExporterCollector):
        def collect(self):  # type: ignore[no-untyped-def]
            return families

    registry.register(All([], BUILD))
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=generate_latest(registry), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
