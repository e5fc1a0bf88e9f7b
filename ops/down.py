"""`embedkit down`: stop everything that `up` started and leave nothing running, or take single models out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from archives.progress import Progress
from ops.deploy.close import close
from ops.desired import desired_file, forget, read_models, write_models
from ops.errors import OpsError
from ops.exclusive import exclusive, lock_file
from ops.gateway.live import follow_models
from ops.gateway.program import socket_file as gateway_socket
from ops.preparing import mark_stop
from ops.settings import Settings
from ops.supervisor.config import pid_file, socket_file
from ops.supervisor.control import Supervisor
from ops.supervisor.process import STOP_ALLOWANCE_S, end_unsupervised
from ops.torchserve import leftovers, pidfile
from ops.torchserve.management import Management, ManagementError


@dataclass(frozen=True)
class Drain:
    """Let accepted requests finish first, for at most so many seconds (None: see deploy.drain)."""

    limit_s: float | None = None


@dataclass(frozen=True)
class Down:
    """Whether anything ran, and what was still in flight when it was stopped; without a drain nobody looks."""

    ran: bool
    dropped: tuple[str, ...] = ()


def bring_down(settings: Settings, progress: Callable[[str], None], drain: Drain | None = None) -> Down:
    """Stop the service.

    Raises:
        OpsError: it is another user's, or a process does not end.
    """
    dropped: list[str] = []
    with exclusive(lock_file(settings), progress):
        mark_stop(settings)
        ours = {process.pid for process in leftovers.our_processes(settings)}
        supervisor, wait_s = Supervisor(settings), float(settings.stop_timeout_s + STOP_ALLOWANCE_S)
        answers = supervisor.running()
        if drain and (supervisor.runs("torchserve") if answers else supervisor.silent()):
            models = read_models(desired_file(settings))
            try:
                dropped = close(settings, models, limit_s=drain.limit_s, say=progress)
            except ManagementError as error:
                progress(f"nothing can be drained: {error}")
        if answers:
            progress("stopping supervisord and its programs")
            try:
                supervisor.shut_down(wait_s)
            except OpsError as error:
                progress(str(error))
                wait_s = 0
        ended = end_unsupervised(settings, progress, wait_s=wait_s)
        pidfile.release(ours)
        for folder in (settings.temp, settings.telemetry):
            leftovers.clear_folder(folder)
        for file in (socket_file(settings), pid_file(settings), gateway_socket(settings)):
            file.unlink(missing_ok=True)
    return Down(answers or bool(ended), tuple(dropped))


def take_out(
    settings: Settings, names: Iterable[str], progress: Progress, drain: Drain | None = None
) -> tuple[list[str], list[str]]:
    """Remove models from the desired state and, where it runs, from the server; returns the models left, and what was
    still in flight.

    Raises:
        OpsError: a name is not served, or TorchServe refuses.
    """
    with exclusive(lock_file(settings), progress.say):
        desired = read_models(desired_file(settings))
        going = list(names)
        unknown = [name for name in going if name not in desired]
        if unknown:
            raise OpsError(f"{unknown[0]} is not served; served: {', '.join(desired) or 'nothing'}")
        serving = Supervisor(settings).runs("torchserve")  # else it starts without them
        # Until the accepted requests are answered nothing is promised: the next `up` opens what was only closed.
        dropped = close(settings, going, limit_s=drain.limit_s, say=progress.say) if serving and drain else []
        for name in going:
            del desired[name]
        write_models(desired_file(settings), desired)
        for name in going:
            forget(settings, name)
        if serving:
            management = Management(settings, timeout_s=60)
            for name in going:
                for loaded in reversed(management.describe(name)):  # the default goes last, as TorchServe insists
                    progress.say(f"{name}: removing version {loaded.version} from the server")
                    management.unregister(name, loaded.version)
        follow_models(settings, desired.values(), progress.say)
    return list(desired), dropped
