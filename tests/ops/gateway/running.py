"""A real HAProxy with the kit's configuration, without supervisord."""

import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
import requests

from archives.plan import CONFIG_NAME, ENTRY_NAME, MANIFEST_NAME
from handlers.card import CARD_NAME
from ops.desired import Served
from ops.errors import OpsError
from ops.gateway.control import workers
from ops.gateway.keys import write_keys
from ops.gateway.program import ENVIRONMENT, gateway_command, gateway_files
from ops.gateway.stage import Route
from ops.observers import write_files
from ops.settings import Settings
from tests.e2e.stack import free_ports
from tests.programs import path

MINILM = Route("minilm", queue_size=64, response_timeout_s=20)
OTHER = Route("other", queue_size=64, response_timeout_s=20)


def haproxy() -> str:
    return path("haproxy")


@dataclass
class Gateway:
    """HAProxy, and where it listens."""

    settings: Settings
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return self.settings.gateway_url()

    @property
    def log(self) -> str:
        return (self.settings.logs / "gateway.log").read_text()

    def logged(self, request_id: str) -> dict[str, Any]:
        """The line of a request, which HAProxy writes a moment after the answer."""
        deadline = time.monotonic() + 5
        while True:
            for line in self.log.splitlines():
                if f'"id":"{request_id}"' in line:
                    found: dict[str, Any] = orjson.loads(line)
                    return found
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def post(self, path: str = "/v1/embeddings", body: Any = None, **options: Any) -> requests.Response:
        return requests.post(self.url + path, json=body or {"input": "a", "model": "minilm"}, timeout=60, **options)

    def reload(self, routes: Sequence[Route]) -> None:
        """Another configuration, taken when this returns."""
        before = set(workers(self.settings))
        write_files({"gateway": gateway_files(self.settings, routes)})
        self.process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + 10
        while True:
            try:
                if set(workers(self.settings)) - before:
                    return
            except OpsError:
                pass
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def served(settings: Settings, file: str, *, queue_size: int, response_timeout_s: int = 20) -> Served:
    """An archive as far as the gateway reads it."""
    settings.served.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(settings.served / file, "w") as archive:
        for name in ("MAR-INF/MANIFEST.json", ENTRY_NAME, CARD_NAME, MANIFEST_NAME):
            archive.writestr(name, "")
        archive.writestr(CONFIG_NAME, f"jobQueueSize: {queue_size}\nresponseTimeout: {response_timeout_s}\n")
    return Served("m", "1.0", file, file)


def settings_for(folder: Path, **chosen: Any) -> Settings:
    """Settings with ports of their own."""
    names = ("inference_port", "exporter_port", "gateway_port", "gateway_metrics_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return Settings(**{**ports, "var": folder, **chosen})


@contextmanager
def gateway(
    settings: Settings, routes: Sequence[Route] = (MINILM,), keys: Mapping[str, str] | None = None
) -> Iterator[Gateway]:
    """It accepts connections when this begins and is gone when it ends."""
    write_keys(settings, keys)
    write_files({"gateway": gateway_files(settings, routes)})
    with started(settings) as running:
        yield running


@contextmanager
def started(settings: Settings) -> Iterator[Gateway]:
    """The same with what is on disk, as anybody might start it."""
    for folder in (settings.run, settings.logs):
        folder.mkdir(parents=True, exist_ok=True)
    with (settings.logs / "gateway.log").open("wb") as log:
        command = gateway_command(haproxy(), settings)
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT})
    running = Gateway(settings, process)
    try:
        deadline = time.monotonic() + 10
        while not _accepts(settings):
            assert process.poll() is None, running.log
            assert time.monotonic() < deadline, running.log
            time.sleep(0.02)
        yield running
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=10)


def _accepts(settings: Settings) -> bool:
    try:
        return bool(workers(settings))
    except OpsError:
        return False
