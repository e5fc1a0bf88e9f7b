"""TorchServe's management API: which models it has, what their workers do, register and remove."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from ops import loopback
from ops.errors import OpsError
from ops.settings import Settings


class ManagementError(OpsError):
    """TorchServe refused a management request, or does not answer."""


@dataclass(frozen=True)
class Worker:
    """One worker process. `memory_bytes` is its resident memory as TorchServe last saw it; `on_gpu`: asking TorchServe
    about it makes it run nvidia-smi."""

    worker_id: str
    status: str
    pid: int
    memory_bytes: int
    on_gpu: bool = False

    @property
    def ready(self) -> bool:
        return self.status == "READY"


@dataclass(frozen=True)
class Loaded:
    """One version of a model in the server. `archive` is what it was registered from, a name in the store."""

    model: str
    version: str
    archive: str
    min_workers: int
    batch_size: int
    workers: tuple[Worker, ...]
    queue_remaining: int
    queue_pending: int
    response_timeout_s: int = 120  # TorchServe's own defaults
    startup_timeout_s: int = 120
    max_batch_delay_s: float = 0.1

    @property
    def ready(self) -> int:
        return sum(worker.ready for worker in self.workers)


def _loaded(entry: Mapping[str, Any]) -> Loaded:
    queue = entry.get("jobQueueStatus") or {}
    workers = tuple(
        Worker(
            worker_id=str(one["id"]),
            status=str(one["status"]),
            pid=int(one.get("pid", -1)),
            memory_bytes=int(one.get("memoryUsage", 0)),
            on_gpu=bool(one.get("gpu", False)),
        )
        for one in entry.get("workers", [])
    )
    return Loaded(
        model=str(entry["modelName"]),
        version=str(entry["modelVersion"]),
        archive=str(entry.get("modelUrl", "")),
        min_workers=int(entry["minWorkers"]),
        batch_size=int(entry["batchSize"]),
        workers=workers,
        queue_remaining=int(queue.get("remainingCapacity", 0)),
        queue_pending=int(queue.get("pendingRequests", 0)),
        response_timeout_s=int(entry["responseTimeout"]),
        startup_timeout_s=int(entry["startupTimeout"]),
        max_batch_delay_s=int(entry["maxBatchDelay"]) / 1000,
    )


class Management:
    """The management API of one running TorchServe. Every call raises ManagementError when it is not granted."""

    def __init__(self, settings: Settings, timeout_s: float = 10.0) -> None:
        self._url = settings.management_url
        self._timeout = timeout_s

    def _call(self, method: str, path: str, params: Mapping[str, str] | None = None) -> requests.Response:
        try:
            return loopback.request(method, self._url(path), params=params, timeout=self._timeout)
        except requests.RequestException as error:
            raise ManagementError(
                f"TorchServe's management API at {self._url()} does not answer ({type(error).__name__}): "
                "see `embedkit status`"
            ) from error

    def models(self) -> list[str]:
        """The names of the models that are registered."""
        answer = self._call("GET", "/models", {"limit": "100"})
        if answer.status_code != 200:
            raise ManagementError(f"listing models: {answer.status_code} {answer.text.strip()}")
        return [str(one["modelName"]) for one in answer.json()["models"]]

    def describe(self, model: str) -> list[Loaded]:
        """Every version of a model, the default first; empty when it is not registered."""
        found = self._describe(f"{model}/all")
        if len(found) < 2:
            return found
        # TorchServe lists them in no order, and says of none whether it is the default.
        default = {one.version for one in self._describe(model)}
        return sorted(found, key=lambda one: one.version not in default)

    def version(self, model: str, version: str) -> Loaded | None:
        """One version of a model; None when it is not registered."""
        return next(iter(self._describe(f"{model}/{version}")), None)

    def _describe(self, path: str) -> list[Loaded]:
        answer = self._call("GET", f"/models/{path}")
        if answer.status_code == 404:
            return []
        if answer.status_code != 200:
            raise ManagementError(f"describing {path}: {answer.status_code} {answer.text.strip()}")
        return [_loaded(entry) for entry in answer.json()]

    def register(self, model: str, archive: str) -> None:
        """Add a model from the store; its workers start in the background, as the archive's configuration says."""
        answer = self._call("POST", "/models", {"url": archive, "model_name": model, "synchronous": "false"})
        if answer.status_code not in {200, 202}:
            raise ManagementError(f"registering {archive} as {model}: {answer.status_code} {answer.text.strip()}")

    def scale(self, model: str, version: str, workers: int) -> None:
        """Ask for this many workers; returns at once."""
        wanted = {"min_worker": str(workers), "max_worker": str(workers)}
        answer = self._call("PUT", f"/models/{model}/{version}", wanted)
        if answer.status_code not in {200, 202}:
            raise ManagementError(f"scaling {model}: {answer.status_code} {answer.text.strip()}")

    def set_default(self, model: str, version: str) -> None:
        """Let requests that name no version come to this one from now on."""
        answer = self._call("PUT", f"/models/{model}/{version}/set-default")
        if answer.status_code != 200:
            raise ManagementError(f"making {model} {version} the default: {answer.status_code} {answer.text.strip()}")

    def unregister(self, model: str, version: str) -> None:
        """Remove one version, or what was given is no longer there."""
        answer = self._call("DELETE", f"/models/{model}/{version}")
        if answer.status_code not in {200, 202, 404}:
            raise ManagementError(f"removing {model} {version}: {answer.status_code} {answer.text.strip()}")
