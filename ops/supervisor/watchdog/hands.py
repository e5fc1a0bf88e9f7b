"""Does what the policy says, if it is still so: between the look and the act an operator may have been quicker."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from archives.snapshot import hash_file
from ops.desired import desired_file, read_models
from ops.errors import OpsError
from ops.settings import Settings
from ops.supervisor.control import Supervisor
from ops.supervisor.watchdog.eyes import worker_processes
from ops.supervisor.watchdog.ledger import Ledger
from ops.supervisor.watchdog.look import TORCHSERVE, Action, Process
from ops.torchserve.leftovers import is_worker
from ops.torchserve.management import Management

MANAGEMENT_S = 10.0


class OutdatedError(Exception):
    """What was seen is no longer so."""


class Hands:
    """Acts on this deployment. `save` writes the ledger down."""

    def __init__(self, settings: Settings, ledger: Ledger, save: Callable[[], None]) -> None:
        self._settings, self._ledger, self._save = settings, ledger, save
        self._supervisor = Supervisor(settings)
        self._management = Management(settings, MANAGEMENT_S)
        self._wrong: dict[Path, tuple[int, int, int]] = {}

    def act(self, action: Action) -> None:
        """Take one action.

        Raises:
            OutdatedError: there is nothing to act on any more.
            OpsError: it was refused; psutil.Error: the process is not ours to end.
        """
        match action.kind:
            case "end_worker":
                self._end_worker(_living(action.process))
            case "revive_model" if action.version:
                self._revive(action)
            case "revive_model":
                self._register(action.target)
            case "restart_torchserve":
                self._restart(_living(action.process), force=action.force)
            case "start_program":
                if self._supervisor.program(action.target).state != "FATAL":
                    raise OutdatedError
                self._supervisor.start(action.target)

    def _end_worker(self, worker: psutil.Process) -> None:
        if not is_worker(worker.cmdline(), self._settings):
            raise OutdatedError
        worker.kill()  # it hangs: it would not see anything gentler

    def _restart(self, server: psutil.Process, *, force: bool) -> None:
        """By a signal alone: supervisord starts it again, unless an operator has stopped it."""
        program = self._supervisor.program(TORCHSERVE)
        if not program.alive or program.pid != server.pid:
            raise OutdatedError
        server.send_signal(signal.SIGKILL if force else signal.SIGTERM)

    def _revive(self, action: Action) -> None:
        program = self._supervisor.program(TORCHSERVE)
        server = Process(program.pid, 0)
        for loaded in self._management.describe(action.target):
            if loaded.version == action.version:
                living = worker_processes(self._settings, server)
                if loaded.ready or any(worker.worker_id in living for worker in loaded.workers):
                    raise OutdatedError
                self._ledger.reviving[action.target] = (action.version, action.workers)
                self._save()
                self._management.scale(action.target, action.version, 0)
                self.finish_reviving()
                return
        raise OutdatedError

    def _register(self, model: str) -> None:
        """Give TorchServe what it could not load at its start, if that is whole and there is room to unpack it: each
        try that fails halfway leaves what it has unpacked."""
        wanted = read_models(desired_file(self._settings)).get(model)
        if wanted is None or self._management.describe(model):
            raise OutdatedError
        archive = self._settings.served / wanted.archive
        try:
            free, size = shutil.disk_usage(self._settings.temp).free, archive.stat().st_size
            if free < 1.1 * size:
                raise OpsError(f"{size >> 20} MB are to be unpacked and {free >> 20} MB free in {self._settings.temp}")
            if not self._is_verified(archive, wanted.sha256):
                raise OpsError(f"{archive} is not the file that was verified: run `embedkit up {model}`")
        except OSError as error:
            raise OpsError(f"{archive}: {error.strerror}: run `embedkit up {model}`") from error
        self._management.register(model, wanted.archive)

    def _is_verified(self, archive: Path, sha256: str) -> bool:
        """Whether its digest is that one; a file that was seen to be another is not read again until it changes."""
        found = archive.stat()
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._wrong.get(archive) == state:
            return False
        if hash_file(archive).sha256 == sha256:
            return True
        self._wrong[archive] = state
        return False

    def finish_reviving(self) -> None:
        """Scale up what was scaled to 0, also after a watchdog that ended between the two."""
        for model, (version, workers) in list(self._ledger.reviving.items()):
            if any(one.version == version and one.min_workers == 0 for one in self._management.describe(model)):
                self._management.scale(model, version, workers)
            del self._ledger.reviving[model]
            self._save()


def _living(process: Process | None) -> psutil.Process:
    if process is None:
        raise OutdatedError
    try:
        found = psutil.Process(process.pid)
    except psutil.NoSuchProcess as error:
        raise OutdatedError from error
    if found.create_time() != process.started:
        raise OutdatedError
    return found
