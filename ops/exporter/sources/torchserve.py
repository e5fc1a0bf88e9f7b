"""TorchServe's own counters, and what its management API says of workers and queues."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

import psutil
import requests

from ops import loopback
from ops.desired import desired_file, read_models
from ops.exporter.families import Families
from ops.exporter.source import SourceError
from ops.exporter.torchserve_table import map_metrics
from ops.settings import Settings
from ops.torchserve.management import Loaded, Management, ManagementError

TIMEOUT_S = 3.0
# Describing a model with workers on a GPU makes TorchServe run nvidia-smi for each.
GPU_INTERVAL_S = 15.0
GPU_STALE_S = 60.0
GPU_TIMEOUT_S = 30.0
_STATES = ("READY", "UNLOADING")


def kind_of(error: BaseException | None) -> str:
    """What a failed HTTP request is counted as."""
    if isinstance(error, requests.Timeout):
        return "timeout"
    return "unreachable" if isinstance(error, requests.ConnectionError) else "refused"


class TorchServeMetrics:
    """:8082/metrics."""

    name = "torchserve_metrics"

    def __init__(self, settings: Settings) -> None:
        self._url = settings.metrics_url("/metrics")
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        try:
            answer = loopback.request("GET", self._url, timeout=TIMEOUT_S)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise SourceError(kind_of(error), f"{self._url}: {type(error).__name__}") from error
        try:
            map_metrics(answer.text, families)
        except (ValueError, KeyError, IndexError) as error:
            raise SourceError("unreadable", f"{self._url}: {error}") from error


def map_workers(
    loaded: Iterable[Loaded], process: Callable[[int], tuple[int, float] | None], families: Families
) -> None:
    """Versions of models as the management API tells them; `process`: pid → (resident bytes, start in Unix time)."""
    for one in loaded:
        states = Counter(worker.status if worker.status in _STATES else "OTHER" for worker in one.workers)
        for state in (*_STATES, "OTHER"):
            families.add("torchserve_workers", states[state], model=one.model, version=one.version, state=state)
        families.add("torchserve_workers_wanted", one.min_workers, model=one.model, version=one.version)
        for worker in one.workers:
            found = process(worker.pid) if worker.pid > 0 else None
            if found is not None:
                pid = str(worker.pid)
                families.add("torchserve_worker_memory_bytes", found[0], model=one.model, pid=pid)
                families.add("torchserve_worker_start_time_seconds", found[1], model=one.model, pid=pid)


def map_queues(loaded: Iterable[Loaded], families: Families) -> None:
    """Each version has a queue of its own; a model's are added up."""
    waiting: Counter[str] = Counter()
    capacity: Counter[str] = Counter()
    for one in loaded:
        waiting[one.model] += one.queue_pending
        capacity[one.model] += one.queue_pending + one.queue_remaining
    for model in waiting:
        families.add("torchserve_queue_length", waiting[model], model=model)
        families.add("torchserve_queue_capacity", capacity[model], model=model)


def _process(pid: int) -> tuple[int, float] | None:
    try:
        found = psutil.Process(pid)
        return found.memory_info().rss, found.create_time()
    except psutil.Error:
        return None


class ManagementSource:
    """The management API's view of each desired model.

    With workers on a GPU an answer serves for 15 s and is then renewed beside the scrapes: neither is nvidia-smi run
    for each of them, nor does a slow one look like a server that is down.
    """

    name = "management"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._known: tuple[float, list[Loaded]] | None = None
        self._renewing = False
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        loaded = self._look()
        families.add("torchserve_up", 1)
        map_workers(loaded, _process, families)
        map_queues(loaded, families)

    def _look(self) -> list[Loaded]:
        with self._lock:
            if self._known is not None:
                at, known = self._known
                age = time.monotonic() - at
                if age < GPU_STALE_S and any(worker.on_gpu for one in known for worker in one.workers):
                    if age >= GPU_INTERVAL_S and not self._renewing:
                        self._renewing = True
                        threading.Thread(target=self._renew, name="management refresh", daemon=True).start()
                    return known
        return self._ask(TIMEOUT_S)

    def _renew(self) -> None:
        try:
            with contextlib.suppress(SourceError):  # nothing is known then: the next scrape asks itself, and tells
                self._ask(GPU_TIMEOUT_S)
        finally:
            with self._lock:
                self._renewing = False

    def _ask(self, timeout_s: float) -> list[Loaded]:
        management = Management(self._settings, timeout_s)
        known = None
        try:
            names = list(read_models(desired_file(self._settings))) or management.models()
            known = [one for name in names for one in management.describe(name)]
        except ManagementError as error:
            raise SourceError(kind_of(error.__cause__), str(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError("unreadable", f"the management API's answer: {type(error).__name__} {error}") from error
        finally:
            with self._lock:
                self._known = None if known is None else (time.monotonic(), known)
        return known
