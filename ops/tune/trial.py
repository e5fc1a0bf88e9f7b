"""One candidate on the private server: packed, loaded, warmed up; its ceiling, its latency, its vectors."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archives.catalogue import ModelSpec
from archives.errors import ArchivesError
from archives.pack import LockInfo, pack
from archives.placement import layout
from archives.progress import SILENT, Progress
from archives.resolve import Resolution
from archives.snapshot import Snapshot
from env.hardware import Hardware
from ops.bench.arrivals import poisson_arrivals
from ops.bench.client import ENCODING_FORMAT, Target
from ops.bench.contention import Contention
from ops.bench.figures import Figures, figures
from ops.bench.load import Load, closed_loop, open_loop
from ops.bench.truth import Sample, Truth
from ops.errors import OpsError
from ops.tune.frontier import Run
from ops.tune.material import Material
from ops.tune.plan import Plan
from ops.tune.private import CandidateError, PrivateServer
from ops.tune.space import Candidate

_FIRST_BATCH = 64
# Longer than any answer that is of interest; what hangs must not hold the search for a minute.
_TIMEOUT_S = 20.0
# Enough to fill every batch that is tried, and below the queue, so that nothing is refused.
CONNECTIONS_CPU, CONNECTIONS_GPU = 128, 256


class OutOfTime(Exception):  # noqa: N818 - nothing is wrong: what is left of the limit does not hold this trial
    """The limit would pass before this trial ends."""


@dataclass
class Bench:
    """Where candidates are tried: the server, the model, the texts and the clock (`deadline` on time.monotonic)."""

    server: PrivateServer
    spec: ModelSpec
    snapshot: Snapshot
    engine: Resolution
    lock: LockInfo
    hardware: Hardware
    plan: Plan
    material: Material
    deadline: float
    progress: Progress
    runs: int = 0
    requests: int = 0

    def measure(self, candidate: Candidate) -> Run:
        """One run of a candidate.

        Raises:
            CandidateError: it does not load, leaves texts unanswered or gives a wrong vector: it is out.
            OutOfTime: the limit does not hold this run; never in the first one.
            OpsError: the server cannot be brought back.
        """
        started = time.monotonic()
        self._load(candidate)
        rate = self._warm_up()
        connections = min(self.spec.queue_size, CONNECTIONS_GPU if self._on_gpu else CONNECTIONS_CPU)
        count = self.material.closed_count(rate * self.plan.closed_s, connections)
        if self.runs and time.monotonic() + count / rate + self.plan.open_s > self.deadline:
            raise OutOfTime
        with Contention(self.server.settings, self.hardware.cores).watch() as seen:
            texts = self.material.take("closed", count)
            closed = self._closed(texts, connections, self.material.every("closed", count))
            ceiling = _all_answered(figures(closed), "closed loop").texts_per_s
            opened, coming = self._open(self.plan.load * ceiling)
            latency = _all_answered(figures(opened), "open loop").latency
        assert latency is not None
        seconds = time.monotonic() - started
        sample = Sample()
        sample.keep(self.material.compared("closed", closed), texts)
        sample.keep(self.material.compared("open", opened), coming)
        truth = judged(sample, self.material.references(sample.texts))
        self.runs += 1
        return Run(
            texts_per_s=ceiling,
            rate=self.plan.load * ceiling,
            p50_s=latency.p50,
            p99_s=latency.p99,
            sent=len(closed.shots) + len(opened.shots),
            checked=truth.checked,
            min_cosine=truth.min_cosine or 0.0,
            others=seen.others,
            seconds=seconds,
        )

    @property
    def _on_gpu(self) -> bool:
        return layout(self.spec, self.hardware).on_gpu

    @property
    def _target(self) -> Target:
        url = self.server.settings.inference_url(f"/predictions/{self.spec.name}")
        return Target.of(url, encoding_format=ENCODING_FORMAT)

    def _load(self, candidate: Candidate) -> None:
        """Pack the model with the candidate's values into the private store, and serve that."""
        spec = candidate.spec(self.spec)
        if not self.server.alive:
            self.progress.say("the private TorchServe is gone: starting it again")
            self.server.start()
        try:
            # Backend and dtype are the same for every candidate: they are not chosen again.
            packed = pack(
                spec, self.snapshot, layout(spec, self.hardware), self.server.settings.served, lock=self.lock,
                resolution=self.engine,
            )  # fmt: skip
        except ArchivesError as error:
            raise CandidateError(str(error)) from error
        left = max(1.0, self.deadline - time.monotonic())
        try:
            self.server.load(spec.name, packed.path, min(float(spec.startup_timeout_s), left))
        except OpsError as error:
            if time.monotonic() >= self.deadline and self.runs:
                raise OutOfTime from error
            raise CandidateError(str(error)) from error

    def _warm_up(self) -> float:
        """Texts a second of the last stretch; the very first run also warms the JVM, so it takes twice as long."""
        wanted_s = self.plan.warm_up_s * (1 if self.runs else 2)
        spent, rate, count = 0.0, 0.0, _FIRST_BATCH
        while spent < wanted_s:
            load = self._closed(self.material.take("warm-up", count), 64)
            found = _all_answered(figures(load), "warm-up")
            spent, rate = spent + found.seconds, found.texts_per_s
            count = max(_FIRST_BATCH, round(rate * min(3.0, max(0.5, wanted_s - spent))))
        return rate

    def _closed(self, texts: Sequence[str], connections: int, keep_every: int = 0) -> Load:
        self.requests += len(texts)
        return closed_loop(
            self._target,
            texts,
            connections=min(connections, self.spec.queue_size),
            progress=SILENT,
            timeout_s=_TIMEOUT_S,
            keep_every=keep_every,
        )

    def _open(self, rate: float) -> tuple[Load, list[str]]:
        arrivals = poisson_arrivals(rate, self.plan.open_s, f"{self.plan.seed} tune")
        if not arrivals:
            raise CandidateError(
                f"{rate:.2f} texts a second are too few to judge latency within {self.plan.open_s:.0f} s"
            )
        texts = self.material.take("open", len(arrivals))
        self.requests += len(texts)
        every = self.material.every("open", len(texts))
        load = open_loop(self._target, texts, arrivals, progress=SILENT, timeout_s=_TIMEOUT_S, keep_every=every)
        return load, texts


def judged(sample: Sample, references: Mapping[str, Sequence[float]]) -> Truth:
    """What the comparison came to.

    Raises:
        CandidateError: a vector is wrong, or nothing could be compared.
    """
    truth = sample.check(references)
    if truth.wrong or not truth.checked:
        raise CandidateError(
            f"{truth.wrong} of {truth.checked} compared vectors are wrong: cosine {truth.min_cosine} with plain "
            f"sentence-transformers, {truth.bar} has to be reached (the furthest off: {truth.worst_text!r})"
        )
    return truth


def _all_answered(found: Figures, what: str) -> Figures:
    if found.answered < found.sent or not found.sent:
        outcomes = ", ".join(f"{count} × {outcome}" for outcome, count in found.outcomes.items() if outcome != "200")
        said = next((text for status, text in found.examples.items() if status != "200"), "")
        raise CandidateError(
            f"{what}: {found.sent - found.answered} of {found.sent} texts unanswered: {outcomes} {said}"
        )
    return found
