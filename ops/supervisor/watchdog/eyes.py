"""Looks at supervisord, TorchServe, its processes and what they tell; never waits long for anything that hangs."""

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import psutil

from ops.desired import desired_file, read_models
from ops.errors import OpsError
from ops.prepare import known_references
from ops.probe import Probe, Reference, probe
from ops.prober import Prober, Tried
from ops.settings import Settings
from ops.supervisor.control import Supervisor
from ops.supervisor.watchdog.look import TORCHSERVE, Activity, Look, ModelLook, Process, WorkerLook
from ops.telemetry import DamagedFileError, read_file
from ops.torchserve.leftovers import worker_socket
from ops.torchserve.management import Loaded, Management

PROBE_S = 10.0
PROBE_SHARE = 0.05  # of its time that a model may spend on probes
MANAGEMENT_S = 4.0
# Describing a model with workers on a GPU makes TorchServe run nvidia-smi for each.
GPU_INTERVAL_S = 15.0
GPU_MANAGEMENT_S = 30.0
_WAIT_S = 2.0


def process_of(found: psutil.Process) -> Process | None:
    """The process as the policy sees it; None where it is gone."""
    try:
        status = found.status()
        if status == psutil.STATUS_ZOMBIE:
            return None
        return Process(found.pid, found.create_time(), status == psutil.STATUS_STOPPED)
    except psutil.Error:
        return None


def worker_processes(settings: Settings, server: Process) -> dict[str, Process]:
    """TorchServe's worker id → the living process of the worker."""
    found = {}
    try:
        children = psutil.Process(server.pid).children()
    except psutil.Error:
        return {}
    for child in children:
        try:
            socket = worker_socket(child.cmdline(), settings)
        except psutil.Error:
            continue
        process = process_of(child)
        if socket is not None and process is not None:
            found[socket.rpartition(".")[2]] = process
    return found


def activity(telemetry: Path, pid: int) -> Activity | None:
    """What a worker tells of itself, None where its files cannot be read."""
    values: dict[tuple[str, str], float] = {}
    try:
        for kind in ("counter", "gauge_mostrecent"):
            for key, (value, _) in read_file(telemetry / f"{kind}_{pid}.db").items():
                metric, _, labels, _ = orjson.loads(key)
                values[metric, labels.get("of", "")] = value
        texts = values["embedding_texts", ""]
        users, canaries = (values["embedkit_batch_begun_seconds", of] for of in ("users", "canaries"))
    except (DamagedFileError, FileNotFoundError, KeyError):
        return None
    return Activity(texts, users or canaries or None, canaries=not users and canaries > 0)


class _ManagementEye:
    """Asks the management API in a thread of its own, never twice at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._asked_at = 0.0
        self.answers = False
        self.known: list[Loaded] = []
        self.missing: tuple[str, ...] = ()

    def look(self) -> None:
        """Ask, and wait for a moment; what has not come by then comes with a later look."""
        on_gpu = any(worker.on_gpu for one in self.known for worker in one.workers)
        if self._thread is None or not self._thread.is_alive():
            if self.answers and on_gpu and time.monotonic() - self._asked_at < GPU_INTERVAL_S:
                return
            self._asked_at = time.monotonic()
            timeout_s = GPU_MANAGEMENT_S if on_gpu else MANAGEMENT_S
            self._thread = threading.Thread(target=self._ask, args=(timeout_s,), daemon=True)
            self._thread.start()
        self._thread.join(_WAIT_S)

    def _ask(self, timeout_s: float) -> None:
        management = Management(self._settings, timeout_s)
        try:
            names = list(read_models(desired_file(self._settings))) or management.models()
            described = {name: management.describe(name) for name in names}
            self.known = [one for versions in described.values() for one in versions]
            self.missing = tuple(name for name, versions in described.items() if not versions)
            self.answers = True
        except (OpsError, OSError, ValueError, KeyError, TypeError):
            self.answers = False


class Eyes:
    """Sees this deployment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._supervisor = Supervisor(settings)
        self._management = _ManagementEye(settings)
        self._server: tuple[int, float] | None = None
        self._lock = threading.Lock()
        self._heard: list[Probe] = []
        self._due: dict[str, float] = {}
        self._prober = Prober(self._targets, self._probe, 0, self._hear)

    def look(self) -> Look:
        """One look.

        Raises:
            OpsError: supervisord does not answer.
        """
        programs = {one.name: one for one in self._supervisor.programs()}
        states = {name: one.state for name, one in programs.items()}
        torchserve = programs.get(TORCHSERVE)
        if torchserve is None or not torchserve.alive:
            return Look(states)
        try:
            server = process_of(psutil.Process(torchserve.pid))
        except psutil.Error:
            server = None
        if server is None:
            return Look(states)
        if server.key != self._server:  # what another one has answered says nothing of this one
            self._server, self._management = server.key, _ManagementEye(self._settings)
        if not self._management.answers:
            self._due.clear()  # now a probe has to tell whether it serves
        self._prober.round()
        self._management.look()
        with self._lock:
            heard, self._heard = self._heard, []
        models = tuple(self._models(server)) if self._management.answers else ()
        missing = self._management.missing if self._management.answers else ()
        found = {} if self._management.answers else self._found(server)
        return Look(states, server, self._management.answers, models, tuple(heard), missing, found)

    def _found(self, server: Process) -> dict[tuple[int, float], Activity | None]:
        workers = worker_processes(self._settings, server).values()
        return {one.key: self._activity(one) for one in workers}

    def _models(self, server: Process) -> Iterator[ModelLook]:
        processes = worker_processes(self._settings, server)
        seen: set[str] = set()
        for one in self._management.known:
            workers = tuple(
                WorkerLook(processes[worker.worker_id], worker.ready, self._activity(processes[worker.worker_id]))
                for worker in one.workers
                if worker.worker_id in processes
            )
            yield ModelLook(
                one.model,
                one.version,
                one.min_workers,
                workers,
                one.response_timeout_s,
                one.startup_timeout_s,
                default=one.model not in seen,
            )
            seen.add(one.model)

    def _activity(self, process: Process) -> Activity | None:
        return activity(self._settings.telemetry, process.pid)

    # Probes, in threads of the prober's.

    def _targets(self) -> Mapping[str, Reference]:
        now = time.monotonic()
        try:
            references = known_references(self._settings)[1]
        except (OpsError, OSError):  # the exporter's canaries say it
            return {}
        return {model: reference for model, reference in references.items() if self._due.get(model, 0.0) <= now}

    def _probe(self, model: str, reference: Reference) -> Probe:
        return probe(self._settings, model, reference, PROBE_S)

    def _hear(self, tried: Tried) -> None:
        found = tried.probe
        self._due[found.model] = time.monotonic() + (found.latency_s / PROBE_SHARE if found.ok else 0.0)
        with self._lock:
            self._heard.append(found)
