"""One run's phases on one service: each takes texts that were not sent before, and everything sent is counted."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from archives.progress import Progress
from ops.bench import stages
from ops.bench.arrivals import poisson_arrivals
from ops.bench.client import ENCODING_FORMAT, Target
from ops.bench.contention import QUIET, Contention
from ops.bench.figures import Figures, figures
from ops.bench.load import closed_loop, open_loop
from ops.bench.options import OVERLOAD, Options
from ops.bench.result import MemoryPoint, OpenPoint, Overload
from ops.bench.service import Service, resident_memory, worker_pids
from ops.bench.stages import Stages
from ops.bench.texts import Profile, Texts
from ops.bench.truth import Sample, stride
from ops.errors import OpsError
from ops.probe import probe
from ops.settings import Settings

_LEAST_TEXTS = 24
# A first guess of how fast the service is, in texts a second; the warm-up corrects it.
_FIRST_BATCH = 64


@dataclass
class Phases:
    """The service under load. `errors`, `refused` and `requests` add up over all phases; `ran` is when the latest
    closed loop sent its first text and had its last outcome (time.monotonic, to some hundredths of a second).
    """

    settings: Settings
    service: Service
    options: Options
    progress: Progress
    texts: Texts
    contention: Contention
    sample: Sample = field(default_factory=Sample)
    memory: list[MemoryPoint] = field(default_factory=list)
    errors: int = 0
    refused: int = 0
    requests: int = 0
    ran: tuple[float, float] = (0.0, 0.0)

    @property
    def target(self) -> Target:
        url = self.settings.inference_url(f"/predictions/{self.service.model}")
        return Target.of(url, encoding_format=ENCODING_FORMAT)

    def count(self, found: Figures, *, within_capacity: bool) -> Figures:
        """Add a phase up: a refusal is an error where the service should have had room."""
        self.requests += found.sent
        self.errors += found.errors + (found.refusals if within_capacity else 0)
        self.refused += 0 if within_capacity else found.refusals
        self.memory.append(MemoryPoint(self.requests, sum(resident_memory(self.pids()).values())))
        return found

    def pids(self) -> tuple[int, ...]:
        """The ready workers; none where the server itself is gone, which the next phase will say."""
        try:
            return worker_pids(self.settings, self.service.model)
        except OpsError:
            return ()

    def warm_up(self, profile: Profile) -> float:
        """Load of one kind for `warm_up_s`; returns the texts a second of its last stretch.

        Raises:
            OpsError: nothing is answered.
        """
        spent, rate, count = 0.0, 0.0, _FIRST_BATCH
        while spent < self.options.warm_up_s:
            found = self.closed(self.texts.take(profile, count), 64, f"{profile}: warm-up")
            if not found.answered:
                raise OpsError(f"none of {found.sent} texts was answered: {_what_came(found)}; see `embedkit status`")
            spent, rate = spent + found.seconds, found.texts_per_s
            count = max(_LEAST_TEXTS, round(rate * min(5.0, max(0.5, self.options.warm_up_s - spent))))
        return rate

    def closed(self, texts: Sequence[str], connections: int, label: str) -> Figures:
        """Each text once over so many connections."""
        with self.contention.watch() as seen:
            load = closed_loop(
                self.target,
                texts,
                connections=connections,
                progress=self.progress,
                label=label,
                keep_every=stride(len(texts), self.options.kept),
            )
            ended = time.monotonic()
        self.ran = (ended - load.seconds, ended)
        self.sample.keep(load, texts)
        found = self.count(replace(figures(load), others=seen.others), within_capacity=True)
        self.progress.say(f"{label}: {describe(found)}")
        return found

    def closed_with_stages(self, texts: Sequence[str], connections: int, label: str) -> tuple[Figures, Stages]:
        """The same, and where the workers' time went meanwhile."""
        folder, model = self.settings.telemetry, self.service.model
        workers, before = len(self.pids()), stages.snapshot(folder, model)
        found = self.closed(texts, connections, label)
        after = stages.snapshot(folder, model)
        return found, stages.between(before, after, elapsed_s=found.seconds, workers=workers)

    def open(self, profile: Profile, fraction: float, ceiling: float, seconds: float) -> OpenPoint:
        """Poisson arrivals at a fraction of the ceiling.

        Raises:
            OpsError: there is no ceiling, as nothing was answered.
        """
        rate = fraction * ceiling
        if not rate:
            raise OpsError(f"{profile}: no text was answered in the closed loop; see `embedkit status`")
        arrivals = poisson_arrivals(rate, seconds, f"{self.options.seed} {profile} {fraction}")
        texts = self.texts.take(profile, len(arrivals))
        label = f"{profile}: {rate:.0f} a second, {fraction:.0%} of the ceiling"
        with self.contention.watch() as seen:
            load = open_loop(
                self.target,
                texts,
                arrivals,
                progress=self.progress,
                label=label,
                keep_every=stride(len(texts), self.options.kept),
            )
        self.sample.keep(load, texts)
        found = self.count(replace(figures(load), others=seen.others), within_capacity=fraction < 1)
        self.progress.say(f"{label}: {describe(found)}")
        return OpenPoint(fraction, rate, found)

    def overload(self, profile: Profile, ceiling: float) -> Overload:
        """More than can be served, for a while; then a known text."""
        before = self.pids()
        point = self.open(profile, OVERLOAD, ceiling, self.options.overload_s)
        lost = sorted(set(before).difference(self.pids()))
        after = probe(self.settings, self.service.model, self.service.reference)
        if lost or not after.ok:
            self.errors += 1
            self.progress.say(
                f"{profile}: after the overload, {len(lost)} workers are gone; {after.error or 'it answers'}"
            )
        waiting = self.service.queue_size + len(before) * self.service.batch_size
        # At the pace of the overload itself: refusing takes time too.
        return Overload(point, waiting / (point.figures.texts_per_s or ceiling), lost, after.ok)

    def how_many(self, rate: float, seconds: float, connections: int) -> int:
        """Texts for a closed loop to last so long, at a guessed rate."""
        # One connection never has company in a batch, and a batch is what makes the rate.
        expected = rate if connections > 8 else 0.1 * rate
        return max(_LEAST_TEXTS, connections * 3, round(expected * seconds))


def describe(found: Figures) -> str:
    """A phase in a line."""
    latency = found.latency
    times = f", p50 {latency.p50 * 1000:.0f} ms, p99 {latency.p99 * 1000:.0f} ms" if latency else ""
    wrong = "" if found.answered == found.sent else f"; {_what_came(found)}"
    others = f" (others took {found.others:.0%} of the cores)" if found.others > QUIET else ""
    return f"{found.texts_per_s:.0f} texts a second{times}{wrong}{others}"


def _what_came(found: Figures) -> str:
    return ", ".join(f"{count} × {outcome}" for outcome, count in found.outcomes.items())
