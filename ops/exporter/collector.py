"""One scrape: every source is asked at once, and what has come by the deadline is given."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from ops.exporter.families import FAMILIES, Families, empty
from ops.exporter.source import Runner, Source

# Prometheus waits 10 s; a scrape is promised within one.
DEADLINE_S = 0.7
# What says 0 where its source does not answer.
_UP = {"management": "torchserve_up", "supervisor": "supervisor_up", "gateway": "gateway_up"}


class ExporterCollector(Collector):
    """Builds all families afresh at each scrape. `build` holds the labels of embedkit_build_info."""

    def __init__(self, sources: Sequence[Source], build: Mapping[str, str], deadline_s: float = DEADLINE_S) -> None:
        self._runners = [Runner(source) for source in sources]
        self._build = build
        self._deadline_s = deadline_s

    def describe(self) -> Iterable[Metric]:
        """Every family without samples, so that registering asks no source."""
        return [empty(family) for family in FAMILIES.values()]

    def collect(self) -> Iterator[Metric]:
        started = time.monotonic()
        asked = [(runner, runner.ask()) for runner in self._runners]
        own = Families()
        own.add("embedkit_build_info", 1, **self._build)
        for runner, question in asked:
            error = runner.wait(question, started + self._deadline_s)
            if error is None and not question.absent:
                yield from question.families
            if not question.absent:
                took = question.seconds if question.done.is_set() else time.monotonic() - started
                own.add("embedkit_source_up", error is None, source=runner.name)
                own.add("embedkit_source_scrape_duration_seconds", took, source=runner.name)
            if runner.name in _UP and error is not None:
                own.add(_UP[runner.name], 0)
            for kind, count in sorted(runner.errors.items()):
                own.add("embedkit_source_errors_total", count, source=runner.name, kind=kind)
        yield from own
