"""`embedkit status`: processes, workers, devices, and whether a real request is answered now."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import psutil

from ops.deploy.plan import next_step
from ops.desired import Served
from ops.errors import OpsError
from ops.exclusive import Holder, holder, lock_file
from ops.gateway.check import wrongly_open
from ops.gateway.knock import Door, knock
from ops.pause import paused
from ops.probe import Probe, Reference, probe_known
from ops.settings import OBSERVERS, Settings
from ops.supervisor.control import Program, Supervisor
from ops.telemetry import LastAnswer, WorkerCard, last_answers, worker_cards
from ops.torchserve.management import Loaded, Management, ManagementError


@dataclass(frozen=True)
class ModelStatus:
    """One desired model. `last` is the last answer to anybody before this look, `probe` this look's own request."""

    model: str
    version: str
    workers_ready: int
    workers_wanted: int
    pids: tuple[int, ...]
    devices: tuple[str, ...]
    device_reason: str
    memory_bytes: int
    queue_pending: int
    fingerprint: str
    max_request_tokens: int | None
    last_answer_age_s: float | None
    last_answer_latency_s: float | None
    probe: Probe

    @property
    def ok(self) -> bool:
        return self.probe.ok and self.workers_ready >= self.workers_wanted


@dataclass(frozen=True)
class Status:
    """Everything at one moment. `problem` says what keeps the service as a whole from running, or is empty; `notes`
    what does not and should be known; `door` whether the gateway asks for keys, None where none runs."""

    supervisord_pid: int | None
    programs: tuple[Program, ...]
    models: tuple[ModelStatus, ...]
    ports: Mapping[str, int]
    problem: str
    notes: tuple[str, ...] = ()
    door: Door | None = None

    @property
    def ok(self) -> bool:
        return not self.problem and all(model.ok for model in self.models)


def resident_bytes(pids: tuple[int, ...]) -> int:
    """Resident memory of these processes together; those that are gone count nothing."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    return total


def model_status(
    one: Served,
    *,
    loaded: Loaded | None,
    found: Probe,
    cards: Mapping[int, WorkerCard],
    last: LastAnswer | None,
    now: float,
) -> ModelStatus:
    """Put together what the sources say of one model."""
    workers = loaded.workers if loaded else ()
    pids = tuple(worker.pid for worker in workers if worker.ready)
    mine = [cards[pid] for pid in pids if pid in cards]
    return ModelStatus(
        model=one.model,
        version=one.version,
        workers_ready=len(pids),
        workers_wanted=loaded.min_workers if loaded else 1,
        pids=pids,
        devices=tuple(sorted({card.device for card in mine})),
        device_reason=mine[0].reason if mine else "",
        memory_bytes=resident_bytes(pids),
        queue_pending=loaded.queue_pending if loaded else 0,
        fingerprint=mine[0].fingerprint if mine else "",
        max_request_tokens=min((card.max_request_tokens for card in mine if card.max_request_tokens), default=None),
        last_answer_age_s=now - last.timestamp if last else None,
        last_answer_latency_s=last.latency_s if last else None,
        probe=found,
    )


def idle(programs: Iterable[Program], settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is said of programs that do not run: of those that were promised, and of observers that merely could run."""
    needed: list[str] = []
    others: list[str] = []
    for one in programs:
        if not one.alive:
            said = f"{one.name} is {one.state}: `supervisorctl start {one.name}`, log {one.log}"
            optional = one.name in OBSERVERS and getattr(settings, one.name) != "on"
            (others if optional else needed).append(said)
    return tuple(needed), tuple(others)


def look(settings: Settings, desired: Mapping[str, Served], references: Mapping[str, Reference]) -> Status:
    """Look at everything once. A source that fails shows as a problem, never as an exception."""
    supervisor = Supervisor(settings)
    pid: int | None = None
    programs: tuple[Program, ...] = ()
    problem = ""
    asked = True  # whether there may be a TorchServe to ask
    if supervisor.running():
        try:
            pid, programs = supervisor.pid(), tuple(supervisor.programs())
        except OpsError as error:  # it is being stopped
            return Status(None, (), (), settings.ports, str(error))
        torchserve = next((program for program in programs if program.name == "torchserve"), None)
        if torchserve is None or not torchserve.alive:
            state = torchserve.state if torchserve else "missing from supervisord"
            problem = f"torchserve is {state}: `supervisorctl start torchserve`, log {settings.logs / 'torchserve.log'}"
            asked = False
    elif silent := supervisor.silent():  # its programs may serve on
        pid, problem = silent.pid, str(silent)
    else:
        return Status(None, (), (), settings.ports, "not running: start it with `make up`")
    management = Management(settings, timeout_s=5)
    cards, last, now = worker_cards(settings.telemetry), last_answers(settings.telemetry), time.time()
    models, unfinished = [], []
    for name, one in desired.items():
        loaded = None
        if asked:
            try:
                versions = management.describe(name)
                loaded = versions[0] if versions else None
                if versions and next_step(one, versions, {one.version}) is not None:
                    unfinished.append(name)
            except ManagementError as error:
                problem, asked = problem or str(error), False
        found = probe_known(settings, name, references.get(name), timeout_s=5)
        models.append(model_status(one, loaded=loaded, found=found, cards=cards, last=last.get(name), now=now))
    needed, others = idle(programs, settings)
    door = knock(settings) if any(one.name == "gateway" and one.alive for one in programs) else None
    problem = problem or next(iter(needed), "") or (wrongly_open(settings, door) if door else "")
    at_work = holder(lock_file(settings))
    notes = (*others, *_paused(settings, now), *_stopped(at_work), *_unfinished(at_work, unfinished))
    return Status(pid, programs, tuple(models), settings.ports, problem, notes, door)


def _paused(settings: Settings, now: float) -> Iterator[str]:
    try:
        pause = paused(settings, now)
    except OpsError as error:
        yield str(error)
    else:
        if pause:
            yield pause.said(now)


def _stopped(at_work: Holder | None) -> Iterator[str]:
    if at_work and at_work.stopped:
        yield f"the watchdog does not act: {at_work}: {at_work.way_out}"


def _unfinished(at_work: Holder | None, models: Iterable[str]) -> Iterator[str]:
    """What is said of models that have not come to what is desired of them."""
    for model in models:
        if at_work:
            yield f"{model}: its version is being changed: {at_work}"
        else:
            yield (
                f"{model}: a change of its version was interrupted: `embedkit deploy {model}` finishes it, "
                f"`embedkit rollback {model}` undoes it"
            )
