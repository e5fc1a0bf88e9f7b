"""The whole benchmark of one served model, in its order.

Warm-up; one connection against embedding alone; then, so often as is asked, the closed loop at each number of
connections and right after it the bound on the very texts of the largest one, so that whatever else the machine does
meets both; the open loop below the ceiling and the overload above it; at last, a sample of the answers is checked.
"""

import datetime
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from archives.progress import Progress
from archives.verify import unpack
from env.hardware import detect
from ops.bench import bars, latency1, machine, stages
from ops.bench.bound import BoundMeter, Material, Timing, best
from ops.bench.children import Children, engine_spec, plain_spec
from ops.bench.compare import compare, environments
from ops.bench.contention import Contention
from ops.bench.figures import Figures, Percentiles, percentiles
from ops.bench.headline import headline
from ops.bench.latency1 import Latency1
from ops.bench.options import Options
from ops.bench.peers import versions as peer_versions
from ops.bench.phases import Phases
from ops.bench.result import ClosedPoint, MemoryPoint, OpenPoint, Overload, PeerPoint, ProfileResult, Result
from ops.bench.service import find_service, whole_model
from ops.bench.stages import Stages
from ops.bench.texts import PROFILES, Profile, Texts
from ops.bench.truth import Truth
from ops.settings import Settings

_SETTLED_AFTER = 5_000  # requests: from there on, a worker's memory should stay what it is


@dataclass
class _Found:
    """What there is of one profile so far."""

    rate: float
    sample: list[str]
    tokens: Percentiles | None = None
    latency: Latency1 | None = None
    closed: dict[int, list[Figures]] = field(default_factory=dict)
    stages: list[Stages] = field(default_factory=list)
    timings: list[list[Timing]] = field(default_factory=list)
    open: list[OpenPoint] = field(default_factory=list)
    overload: Overload | None = None

    @property
    def ceiling(self) -> float:
        return max(median(one.texts_per_s for one in runs) for runs in self.closed.values())


def bench(settings: Settings, model: str | None, options: Options, progress: Progress) -> Result:
    """Measure a running deployment; nothing is started or changed but processes that compute in process for comparison.

    Raises:
        OpsError: it is not served, does not answer, or a comparison process failed.
        ArchivesError: its archive in the store is damaged.
    """
    started, started_at = time.monotonic(), datetime.datetime.now(datetime.UTC)
    service, hardware = find_service(settings, model), detect()
    ran_on = machine.look(hardware, more=peer_versions(options.peers))
    progress.say(f"{service.card.fingerprint} on {ran_on.cores} cores; {ran_on.busy_before:.0%} of them were busy")
    phases = Phases(settings, service, options, progress, Texts(options.seed), Contention(settings, hardware.cores))
    installed = environments(phases)
    found = {
        profile: _Found(phases.warm_up(profile), phases.texts.take(profile, options.sample))
        for profile in options.profiles
    }
    warmed_up = phases.requests
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as name:
        unpacked = Path(name) / "archive"
        unpack(service.archive, unpacked)
        max_tokens = _alone(phases, unpacked, found)
        material = Material(unpacked, whole_model(settings, service, unpacked), service.card, hardware, max_tokens)
        meter = BoundMeter(material, trial_s=options.trial_s, passes=options.passes)
        for repeat in range(options.repeats):
            progress.say(f"closed loop, {repeat + 1} of {options.repeats}")
            _closed_and_bound(phases, meter, found)
        for profile, one in found.items():
            one.open = [phases.open(profile, share, one.ceiling, options.open_s) for share in options.fractions]
            one.overload = phases.overload(profile, one.ceiling)
        rates = {profile: one.ceiling for profile, one in found.items()}
        peers, peers_failed = compare(phases, installed, material.model, rates, hardware.cores)
        truth = _truth(phases, material)
    profiles = [_profile_result(profile, one) for profile, one in found.items()]
    growth, others = memory_growth(phases.memory, warmed_up), most_others(profiles, peers)
    return Result(
        headline=headline(service.model, profiles, truth, errors=phases.errors, refused=phases.refused, others=others),
        errors=phases.errors,
        refused=phases.refused,
        others=others,
        requests=phases.requests,
        started_at=started_at.isoformat(timespec="seconds"),
        seconds=time.monotonic() - started,
        options=options,
        machine=ran_on,
        service=service.about(),
        settings=settings.model_dump(mode="json"),
        profiles=profiles,
        truth=truth,
        memory=phases.memory,
        memory_growth=growth,
        peers=peers,
        peers_failed=peers_failed,
        bars=[
            *(bar for one in profiles for bar in _bars(phases, one)),
            *(bar for one in profiles for bar in bars.peers(service.card, one.profile, peers)),
            *bars.memory(growth, phases.requests),
        ],
    )


def _alone(phases: Phases, unpacked: Path, found: dict[Profile, _Found]) -> int:
    """One connection against embedding alone, and the texts' lengths; returns the tokens that the engine reads."""
    service = phases.service
    with Children([engine_spec(unpacked)], threads=service.card.threads) as alone:
        for profile, one in found.items():
            lengths = alone.ask([one.sample], {"do": "lengths"})[0]["lengths"]
            one.tokens = percentiles(lengths)
            texts = phases.texts.take(profile, phases.options.alone)
            one.latency = latency1.measure(phases.target, alone, texts, max_batch_delay_s=service.max_batch_delay_s)
            phases.count(one.latency.figures, within_capacity=True)
            if one.latency.served:
                over = f"{one.latency.served.p50 * 1000:.1f} ms over HTTP"
                phases.progress.say(
                    f"{profile}, one at a time: {over}, {one.latency.alone.p50 * 1000:.1f} ms in process"
                )
        return int(alone.about["max_tokens"])


def _closed_and_bound(phases: Phases, meter: BoundMeter, found: dict[Profile, _Found]) -> None:
    """One repeat: each number of connections, then the same texts in process."""
    options, sets = phases.options, {}
    for profile, one in found.items():
        for connections in options.connections:
            texts = phases.texts.take(profile, phases.how_many(one.rate, options.closed_s, connections))
            label = f"{profile}: {connections} connection{'s' if connections > 1 else ''}"
            figures, stage_times = phases.closed_with_stages(texts, connections, label)
            one.closed.setdefault(connections, []).append(figures)
            if connections == max(options.connections):
                sets[profile] = texts
                one.stages.append(stage_times)
    timings = meter.measure(
        sets, {profile: one.sample for profile, one in found.items()}, phases.contention, phases.progress
    )
    for profile, one in found.items():
        one.timings.append(timings[profile])


def _truth(phases: Phases, material: Material) -> Truth:
    """Compare the kept answers with plain float32 sentence-transformers."""
    texts, cores = phases.sample.texts, material.hardware.cores
    spec = plain_spec(material.model, threads=cores, dtype="float32", max_tokens=material.max_tokens, device="cpu")
    with Children([spec], threads=cores) as plain:
        vectors = plain.ask([texts], {"do": "vectors"})[0]["vectors"]
    truth = phases.sample.check(dict(zip(texts, vectors, strict=True)))
    phases.progress.say(f"{truth.checked} answers compared with the reference, {truth.wrong} wrong")
    return truth


def efficiencies(served: Sequence[Figures], timings: Sequence[Sequence[Timing]]) -> list[float]:
    """Served over the bound, repeat by repeat, each on its own texts and in its own minutes."""
    return [
        figures.texts_per_s / max(timing.texts_per_s for timing in ways)
        for figures, ways in zip(served, timings, strict=True)
    ]


def most_others(profiles: Sequence[ProfileResult], peers: Sequence[PeerPoint]) -> float:
    """The largest share of the cores that other work took during any closed loop or bound, or at a peer."""
    served = [run.others for one in profiles for point in one.closed for run in point.runs]
    bounds = [timing.others for one in profiles for repeat in one.timings for timing in repeat]
    return max([*served, *bounds, *(point.figures.others for point in peers)])


def memory_growth(memory: Sequence[MemoryPoint], warmed_up: int = 0) -> float | None:
    """By which part the workers' memory has grown since it should have settled; None where that was not reached.

    Every kind of text has its own largest passes: nothing has settled within the `warmed_up` requests that introduce
    them.
    """
    settled = [point for point in memory if point.requests >= max(_SETTLED_AFTER, warmed_up) and point.resident]
    return settled[-1].resident / settled[0].resident - 1 if len(settled) > 1 else None


def _profile_result(profile: Profile, one: _Found) -> ProfileResult:
    assert one.tokens is not None
    assert one.latency is not None
    assert one.overload is not None
    most = max(one.closed)
    ratios = efficiencies(one.closed[most], one.timings)
    served_tokens = [part.tokens / part.elapsed_s for part in one.stages if part.elapsed_s]
    return ProfileResult(
        profile=profile,
        meaning=PROFILES[profile].meaning,
        tokens=one.tokens,
        closed=[
            ClosedPoint(connections, median(run.texts_per_s for run in runs), runs)
            for connections, runs in sorted(one.closed.items())
        ],
        bound=best([timing for repeat in one.timings for timing in repeat]),
        timings=one.timings,
        efficiency=median(ratios),
        efficiencies=ratios,
        ceiling=one.ceiling,
        tokens_per_s=median(served_tokens) if served_tokens else 0.0,
        open=one.open,
        overload=one.overload,
        latency1=one.latency,
        stages=stages.together(one.stages),
    )


def _bars(phases: Phases, one: ProfileResult) -> list[bars.Bar]:
    figures = one.overload.point.figures
    return [
        *bars.efficiency(phases.service.card, one.profile, one.efficiency),
        *bars.one_connection(one.profile, one.latency1.ratio_less_delay),
        *bars.overload(
            one.profile,
            lost_workers=len(one.overload.lost_workers),
            slowest_refusal_s=figures.slowest_refusal_s,
            p99_s=figures.latency.p99 if figures.latency else None,
            full_queue_s=one.overload.full_queue_s,
        ),
    ]
