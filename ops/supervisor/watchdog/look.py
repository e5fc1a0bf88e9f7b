"""What the watchdog sees at one moment, and what it can do about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ops.probe import Probe

Kind = Literal["end_worker", "revive_model", "restart_torchserve", "start_program"]
KINDS: tuple[Kind, ...] = ("end_worker", "revive_model", "restart_torchserve", "start_program")
TORCHSERVE = "torchserve"


@dataclass(frozen=True)
class Activity:
    """What a worker tells of itself. `texts` embedded for users so far; `begun` names the batch it is at, None between
    batches; `canaries`: the batch holds nothing but the kit's own short texts."""

    texts: float
    begun: float | None = None
    canaries: bool = False


@dataclass(frozen=True)
class Process:
    """A process: a number may be used again, with its start it is unique. `stopped` by SIGSTOP."""

    pid: int
    started: float
    stopped: bool = False

    @property
    def key(self) -> tuple[int, float]:
        return self.pid, self.started


@dataclass(frozen=True)
class WorkerLook:
    """A living worker process. `activity` is None where it tells nothing, as on a full disk."""

    process: Process
    ready: bool
    activity: Activity | None = None


@dataclass(frozen=True)
class ModelLook:
    """One version of a model in the server; probes go to the default one."""

    model: str
    version: str
    wanted: int
    workers: tuple[WorkerLook, ...]
    response_timeout_s: float
    startup_timeout_s: float
    default: bool = True

    @property
    def ready(self) -> int:
        return sum(worker.ready for worker in self.workers)


@dataclass(frozen=True)
class Look:
    """Everything at one moment. `programs`: name → supervisord's state; `server`: TorchServe's JVM, None where none is
    to run; `answers`: the management API does; `probes`: what has come back since the look before; `missing`: models
    that are to be served and that TorchServe does not have; `found`: what each living worker tells of itself, by its
    process's key, where management does not say whose it is."""

    programs: Mapping[str, str]
    server: Process | None = None
    answers: bool = False
    models: tuple[ModelLook, ...] = ()
    probes: tuple[Probe, ...] = ()
    missing: tuple[str, ...] = ()
    found: Mapping[tuple[int, float], Activity | None] = field(default_factory=dict)

    @property
    def activities(self) -> dict[tuple[int, float], Activity | None]:
        """What each worker tells, by its process's key, whether management answers or not."""
        listed = {worker.process.key: worker.activity for model in self.models for worker in model.workers}
        return {**self.found, **listed}


@dataclass(frozen=True)
class Action:
    """One step. `target` is a model or a program; the rest is what its kind needs."""

    kind: Kind
    target: str
    reason: str
    process: Process | None = None
    force: bool = field(default=False, kw_only=True)
    version: str = field(default="", kw_only=True)
    workers: int = field(default=0, kw_only=True)
