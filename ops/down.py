"""`embedkit down`: stop everything that `up` started and leave nothing running."""

from collections.abc import Callable

from ops.exclusive import exclusive
from ops.settings import Settings
from ops.supervisor.config import pid_file, socket_file
from ops.supervisor.control import Supervisor
from ops.torchserve import leftovers, pidfile


def bring_down(settings: Settings, progress: Callable[[str], None]) -> bool:
    """Stop the service; returns whether anything ran.

    Raises:
        OpsError: supervisord does not end.
    """
    with exclusive(settings.run / "up.lock") as waited:
        if waited:
            progress("waited for another embedkit command to finish")
        ours = {process.pid for process in leftovers.our_processes(settings)}
        supervisor = Supervisor(settings)
        ran = supervisor.running()
        if ran:
            progress("stopping supervisord and its programs")
            supervisor.shut_down(settings.stop_timeout_s + 15)
        # A supervisord that was killed left its server behind.
        orphans = leftovers.end(leftovers.our_processes(settings), grace_s=5)
        if orphans:
            progress(f"ended {len(orphans)} processes without a supervisor: pids {', '.join(map(str, orphans))}")
        pidfile.release(ours)
        for folder in (settings.temp, settings.telemetry):
            leftovers.clear_folder(folder)
        for file in (socket_file(settings), pid_file(settings)):
            file.unlink(missing_ok=True)
    return ran or bool(orphans)
