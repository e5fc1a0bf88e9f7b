"""The stages of the check: each adds what it finds to `Measured` as it goes."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from archives.progress import SILENT, Progress
from archives.trial import SAMPLE, longest_text
from archives.verify import unpack
from env.hardware import Hardware
from ops.bench import peers
from ops.bench.bound import BoundMeter, Material, Timing, best
from ops.bench.children import Children, plain_spec
from ops.bench.compare import peer_point
from ops.bench.contention import Contention
from ops.bench.figures import Figures, Percentiles, figures, percentiles
from ops.bench.gpu import sampler
from ops.bench.gpu.plan import MODEL, Plan
from ops.bench.gpu.shape import POSITIONS
from ops.bench.gpu.tokens import lengths as lengths_of
from ops.bench.load import closed_loop
from ops.bench.peers import PEERS, Setting
from ops.bench.phases import Phases, describe
from ops.bench.result import PeerPoint
from ops.bench.service import find_service, whole_model
from ops.bench.stages import Stages
from ops.bench.texts import Profile, Texts
from ops.bench.truth import Sample, Truth
from ops.errors import OpsError
from ops.settings import Settings
from ops.up import bring_up

_PARITY_TEXTS = {"short": 24, "long": 8}
_BOUND_S = 4.0  # about so long are the texts of the bound when they are served


@dataclass(frozen=True)
class Here:
    """What is asked for, and where it is done: `work` is this run's own folder."""

    plan: Plan
    settings: Settings
    hardware: Hardware
    work: Path
    progress: Progress

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.work / "model"


@dataclass(frozen=True)
class Point:
    """A closed loop: its figures, the workers' stages, the GPU's usage meanwhile."""

    connections: int
    figures: Figures
    stages: Stages
    gpu: Any


@dataclass
class Profiled:
    """One kind of text. `flops_per_text` is the mean over a sample of the lengths in `tokens`."""

    tokens: Percentiles
    flops_per_text: float
    points: list[Point] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)

    @property
    def best(self) -> Point:
        return max(self.points, key=lambda point: point.figures.texts_per_s)


@dataclass
class Measured:
    """What there is so far."""

    product: dict[str, Any] | None = None
    service: dict[str, Any] | None = None
    devices: list[str] = field(default_factory=list)
    parity: Truth | None = None
    under_load: Truth | None = None
    profiles: dict[Profile, Profiled] = field(default_factory=dict)
    peers: list[PeerPoint] = field(default_factory=list)
    phases: Phases | None = None
    # Texts are no part of the result: those of the best closed loop, and others to choose batch sizes with.
    texts: dict[Profile, list[str]] = field(default_factory=dict)
    samples: dict[Profile, list[str]] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """Requests that should have been answered with a vector and were not."""
        return self.phases.errors if self.phases else 0

    @property
    def wrong(self) -> int:
        return sum(truth.wrong for truth in (self.parity, self.under_load) if truth)

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.phases.requests if self.phases else 0,
            "product": self.product,
            "service": self.service,
            "devices": self.devices,
            "parity": self.parity,
            "under_load": self.under_load,
            "profiles": self.profiles,
            "peers": self.peers,
        }


def settings_for(work: Path) -> Settings:
    """A deployment of its own: folders below `work`, ports that are free now."""
    names = [name for name in Settings.model_fields if name.endswith("_port")]
    listeners = [peers.listen() for _ in names]
    try:
        ports: dict[str, Any] = {
            name: listener.getsockname()[1] for name, listener in zip(names, listeners, strict=True)
        }
    finally:
        for listener in listeners:
            listener.close()
    return Settings(var=work / "v", store=work / "s", models_file=work / "models.toml", stop_timeout_s=10, **ports)


def product(here: Here, found: Measured) -> None:
    """The rate of a large matrix product, in a process that is gone afterwards."""
    command = [sys.executable, "-m", "ops.bench.gpu.product", "--device", here.plan.device]
    command += ["--size", str(here.plan.product_size)]
    found.product = json.loads(_run(command, "the matrix product"))


def make_model(here: Here) -> None:
    """The model's folder with seeded weights."""
    command = [sys.executable, "-m", "ops.bench.gpu.made", str(here.model), *(["--small"] if here.plan.small else [])]
    _run(command, "making the model")


def _run(command: Sequence[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-6:])
        raise OpsError(f"{what} failed:\n{last}")
    return done.stdout


def serve(here: Here, found: Measured) -> None:
    """Pack, verify and start it, as `embedkit up` does."""
    settings, options = here.settings, here.plan.options
    settings.models_file.write_text(here.plan.models_toml(str(here.model)), encoding="utf-8")
    bring_up(settings, [MODEL], here.progress, here.hardware)
    service = find_service(settings, MODEL)
    found.service = service.about()
    workers = [json.loads(file.read_bytes()) for file in sorted(settings.telemetry.glob("worker-*.json"))]
    found.devices = [f"{worker['device']} ({worker['device_name']})" for worker in workers]
    contention = Contention(settings, here.hardware.cores)
    found.phases = Phases(settings, service, options, here.progress, Texts(options.seed), contention)


def _phases(found: Measured) -> Phases:
    assert found.phases is not None
    return found.phases


def parity(here: Here, found: Measured) -> None:
    """Varied texts through HTTP against plain float32 sentence-transformers on the CPU."""
    phases, sample = _phases(found), Sample()
    texts = [*SAMPLE, longest_text(8 * POSITIONS)]
    for profile, count in _PARITY_TEXTS.items():
        texts += phases.texts.take(profile, count)  # type: ignore[arg-type]
    load = closed_loop(phases.target, texts, connections=16, progress=here.progress, label="parity", keep_every=1)
    phases.count(figures(load), within_capacity=True)
    sample.keep(load, texts)
    with _plain(here, "cpu") as plain:
        found.parity = _truth(plain, sample)
    truth = found.parity
    here.progress.say(f"{truth.checked} texts: smallest cosine {truth.min_cosine}, {truth.wrong} wrong")


def _plain(here: Here, device: str) -> Children:
    """Plain sentence-transformers in float32 (TF32 is off unless somebody asks for it)."""
    cores = here.hardware.cores
    spec = plain_spec(here.model, threads=cores, dtype="float32", max_tokens=POSITIONS, device=device)
    return Children([spec], threads=cores)


def _truth(plain: Children, sample: Sample) -> Truth:
    vectors = plain.ask([sample.texts], {"do": "vectors"})[0]["vectors"]
    return sample.check(dict(zip(sample.texts, vectors, strict=True)))


def closed(here: Here, found: Measured, profile: Profile) -> None:
    """The closed loop of one kind of text at each number of connections."""
    phases, plan, gpus = _phases(found), here.plan, here.hardware.gpus
    # Taken here, of other texts of this kind: what came before this stage may have failed.
    found.samples[profile] = phases.texts.take(profile, plan.options.sample)
    lengths = lengths_of(here.model, found.samples[profile])
    tokens = percentiles(lengths)
    assert tokens is not None
    found.profiles[profile] = mine = Profiled(tokens, plan.shape.mean_flops(lengths))
    uuid = gpus[0].uuid if plan.device == "cuda" and gpus else None
    rate = phases.warm_up(profile)
    for connections in plan.options.connections:
        texts = phases.texts.take(profile, phases.how_many(rate, plan.options.closed_s, connections))
        with sampler.watch(uuid) as seen:
            got, spent = phases.closed_with_stages(texts, connections, f"{profile}: {connections} connections")
        mine.points.append(Point(connections, got, spent, sampler.as_json(seen, *phases.ran)))
        if mine.best is mine.points[-1]:
            found.texts[profile] = texts
        rate = max(rate, got.texts_per_s)


def bound(here: Here, found: Measured) -> None:
    """What was answered under load against float32; then the same model in process on the texts of the best loop."""
    phases = _phases(found)
    # On the device: so many long texts would take the CPU half a minute, and parity was compared with the CPU's.
    with _plain(here, here.plan.device) as plain:
        found.under_load = _truth(plain, phases.sample)
    unpacked = here.work / "unpacked"
    unpack(phases.service.archive, unpacked)
    model = whole_model(here.settings, phases.service, unpacked)
    one_gpu = replace(here.hardware, gpus=here.hardware.gpus[:1])
    material = Material(unpacked, model, phases.service.card, one_gpu, POSITIONS)
    meter = BoundMeter(material, trial_s=phases.options.trial_s, passes=phases.options.passes)
    time_in_process(meter, phases, found)


def time_in_process(meter: BoundMeter, phases: Phases, found: Measured) -> None:
    """Each way of computing the texts of the best loops; what was timed stays where the time runs out in between."""
    sets = {}
    for profile, one in found.profiles.items():
        if one.points and one.best.figures.answered:
            enough = max(64, round(one.best.figures.texts_per_s * _BOUND_S))
            sets[profile] = found.texts[profile][:enough]
    timings: dict[Profile, list[Timing]] = {}
    try:
        timings = meter.measure(sets, found.samples, phases.contention, phases.progress, timings)
    finally:
        for profile, of_profile in timings.items():
            found.profiles[profile].timings = of_profile


def efficiency(one: Profiled) -> float | None:
    """Served over the bound; None where one of them is missing."""
    if not one.timings or not one.points:
        return None
    return one.best.figures.texts_per_s / best(one.timings).texts_per_s


def infinity(here: Here, found: Measured, programs: Path) -> None:
    """infinity on texts that the service answered right before, as many of them as fit into about the same time.

    Raises:
        OpsError: it is not installed, does not start, answers with other vectors, or a loop of it has no answer at all.
    """
    phases, plan, connections = _phases(found), here.plan, here.plan.peer_connections
    peer = PEERS["infinity"]
    if not (programs / "infinity_emb").exists():
        raise OpsError(f"{programs} has no infinity_emb: install the other steps too")
    texts, served = {}, {}
    for profile, one in found.profiles.items():
        if one.points:
            count = phases.how_many(one.best.figures.texts_per_s, plan.peer_s, connections)
            texts[profile] = phases.texts.take(profile, count)
            label = f"{profile}: {connections} connections, before infinity"
            served[profile] = phases.closed(texts[profile], connections, label).texts_per_s
    for batch in (32,) if plan.small else (32, 128):
        setting = Setting(phases.service.card.dtype, batch, 1, plan.device)
        log = here.work / "infinity.log"
        with peers.running(
            peer, setting, programs=programs, model=here.model, reference=phases.service.reference, log=log
        ) as target:
            for profile, all_of in texts.items():
                label = f"{profile}: infinity, {setting}"
                warm = phases.texts.take(profile, 2 * connections)
                first = figures(closed_loop(target, warm, connections=connections, progress=SILENT))
                wanted = all_of[: max(2 * connections, round(first.texts_per_s * plan.peer_s))]
                load = closed_loop(target, wanted, connections=connections, progress=phases.progress, label=label)
                got = figures(load)
                point = peer_point(peer, setting, profile, got, connections=connections, served=served[profile])
                found.peers.append(point)
                phases.progress.say(f"{label}: {describe(got)}; this kit {served[profile]:.0f}")
    if silent := [point for point in found.peers if not point.figures.answered]:
        point, said = silent[0], " ".join(silent[0].figures.examples.values())
        raise OpsError(
            f"infinity answered nothing in {len(silent)} of {len(found.peers)} loops, such as {point.profile}, "
            f"{point.setting}: {describe(point.figures)}\n{said}"
        )
