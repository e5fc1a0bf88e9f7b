"""`embedkit down`: stop everything that `up` started and leave nothing running, or take single models out."""

from collections.abc import Callable, Iterable

from archives.progress import Progress
from ops.desired import applied_file, desired_file, read_models, write_models
from ops.errors import OpsError
from ops.exclusive import exclusive
from ops.gateway.live import follow_models
from ops.gateway.program import socket_file as gateway_socket
from ops.settings import Settings
from ops.supervisor.config import pid_file, socket_file
from ops.supervisor.control import Supervisor
from ops.torchserve import leftovers, pidfile
from ops.torchserve.management import Management


def bring_down(settings: Settings, progress: Callable[[str], None]) -> bool:
    """Stop the service; returns whether anything ran.

    Raises:
        OpsError: supervisord does not end.
    """
    with exclusive(settings.run / "up.lock", progress):
        ours = {process.pid for process in leftovers.our_processes(settings)}
        supervisor = Supervisor(settings)
        ran = supervisor.running()
        if ran:
            progress("stopping supervisord and its programs")
            supervisor.shut_down(settings.stop_timeout_s + 15)
        # A supervisord that was killed left its programs behind.
        orphans = leftovers.end([*leftovers.programs(settings), *leftovers.our_processes(settings)], grace_s=5)
        if orphans:
            progress(f"ended {len(orphans)} processes without a supervisor: pids {', '.join(map(str, orphans))}")
        pidfile.release(ours)
        for folder in (settings.temp, settings.telemetry):
            leftovers.clear_folder(folder)
        for file in (socket_file(settings), pid_file(settings), gateway_socket(settings)):
            file.unlink(missing_ok=True)
    return ran or bool(orphans)


def take_out(settings: Settings, names: Iterable[str], progress: Progress) -> list[str]:
    """Remove models from the desired state and, where it runs, from the server; returns the models left.

    Raises:
        OpsError: a name is not served, or TorchServe refuses.
    """
    with exclusive(settings.run / "up.lock", progress.say):
        desired = read_models(desired_file(settings))
        applied = read_models(applied_file(settings))
        going = list(names)
        unknown = [name for name in going if name not in desired]
        if unknown:
            raise OpsError(f"{unknown[0]} is not served; served: {', '.join(desired) or 'nothing'}")
        for name in going:
            del desired[name]
        write_models(desired_file(settings), desired)
        follow_models(settings, desired)  # first, so that nobody is sent to what is gone
        if Supervisor(settings).running():
            management = Management(settings, timeout_s=60)
            for name in going:
                for loaded in management.describe(name):
                    progress.say(f"{name}: removing version {loaded.version} from the server")
                    management.unregister(name, loaded.version)
                applied.pop(name, None)
            write_models(applied_file(settings), applied)
    return list(desired)
