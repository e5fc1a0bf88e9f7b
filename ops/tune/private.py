"""A TorchServe of its own: other ports, another var/ and store, no supervisord; gone when the block ends.

It lies in var/tuning, always there, so that what a killed run has left is found and ended by the next.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from ops.errors import OpsError
from ops.serving import tail
from ops.settings import Settings
from ops.supervisor.config import check_paths
from ops.torchserve import launcher, leftovers
from ops.torchserve.management import Management, ManagementError

FOLDER = "tuning"
_POLL_S = 0.1
_START_S = 60.0
_GRACE_S = 5.0
_GONE_S = 10.0


class CandidateError(OpsError):
    """The server runs, but this candidate does not come to serve in it."""


def private_settings(settings: Settings) -> Settings:
    """The same settings in a place and on ports of their own, on loopback.

    Raises:
        OpsError: var/ is so deep that a unix socket's path would be too long.
    """
    var = settings.var / FOLDER
    names = [name for name in type(settings).model_fields if name.endswith("_port")]
    ports = dict(zip(names, _free_ports(len(names), taken=set(settings.ports.values())), strict=True))
    made = settings.model_copy(update={"host": "127.0.0.1", "var": var, "store": var / "store", **ports})
    check_paths(made)
    return made


def _free_ports(count: int, taken: set[int]) -> list[int]:
    """Ports that nobody listens on now, nor wants to."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = int(listener.getsockname()[1])
            if port not in taken:
                found.append(port)
        return found


class PrivateServer:
    """One JVM that serves one archive after the other. A context manager: leaving it leaves nothing behind."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._management = Management(settings, timeout_s=30)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = settings.logs / "torchserve.log"

    def __enter__(self) -> Self:
        try:
            self._clear()  # what a killed run has left
            self.start()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._clear()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Bring the JVM up, without a model; workers that lost theirs go first.

        Raises:
            OpsError: it does not come up; with the last lines of its log.
            JdkError: there is no Java for it.
        """
        with _undisturbed():
            self._end()
        for folder in (self.settings.state, self.settings.served, self.settings.logs, self.settings.run):
            folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            with self._log.open("a") as said, contextlib.redirect_stdout(said):
                command = launcher.prepare(self.settings)
            # In a session of its own: a Ctrl-C is for this program, which then stops it in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops.torchserve.confine", *command],
                env=launcher.clean_environment(os.environ, self.settings),
                cwd=self.settings.run,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started = time.monotonic()
        while True:
            with contextlib.suppress(ManagementError):
                self._management.models()
                return
            if not self.alive:
                raise OpsError(f"the private TorchServe ended. The last lines of {self._log}:\n{tail(self._log)}")
            if time.monotonic() - started > _START_S:
                raise OpsError(
                    f"the private TorchServe is not up after {_START_S:.0f} s. The last lines of {self._log}:\n"
                    f"{tail(self._log)}"
                )
            time.sleep(_POLL_S)

    def load(self, model: str, archive: Path, timeout_s: float) -> None:
        """Serve this archive (in the private store) alone; returns when all its workers are ready.

        Raises:
            CandidateError: it does not come within the time; with the last lines of its log.
            OpsError: the server itself is gone.
        """
        self._unload(model)
        self._management.register(model, archive.name)
        started = time.monotonic()
        said = "it is not registered"
        while time.monotonic() - started < timeout_s:
            if not self.alive:
                raise OpsError(f"the private TorchServe ended. The last lines of {self._log}:\n{tail(self._log)}")
            loaded = self._management.describe(model)
            if loaded:
                said = f"{loaded[0].ready} of {loaded[0].min_workers} workers are ready"
            if loaded and loaded[0].ready >= max(1, loaded[0].min_workers):
                return
            time.sleep(_POLL_S)
        log = self.settings.logs / "model.log"
        raise CandidateError(f"not serving after {timeout_s:.0f} s: {said}. The last lines of {log}:\n{tail(log)}")

    def _unload(self, model: str) -> None:
        """Remove what is served, and return when its processes have given their memory back."""
        for loaded in self._management.describe(model):
            self._management.unregister(model, loaded.version)
        started = time.monotonic()
        while workers := self._worker_processes():
            if time.monotonic() - started > _GONE_S:
                leftovers.end(workers, _GRACE_S)
                return
            time.sleep(_POLL_S)

    def _worker_processes(self) -> list[psutil.Process]:
        return [one for one in leftovers.our_processes(self.settings) if self._process and one.pid != self._process.pid]

    def _end(self) -> None:
        leftovers.end(leftovers.our_processes(self.settings), _GRACE_S)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _clear(self) -> None:
        """End the processes and remove the folder; errors have quoted its logs."""
        with _undisturbed():
            self._end()
            shutil.rmtree(self.settings.var, ignore_errors=True)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not keep this from ending what it has started."""
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
