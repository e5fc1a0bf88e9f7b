"""Find and end what an earlier TorchServe of this kit left behind: a JVM that lost its supervisor, workers that lost
their JVM, other programs that lost supervisord. The first two are known by our own paths in their command lines, the
others by what our supervisord puts into the environment of whatever it starts: never by a name alone."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil

from ops.settings import Settings
from ops.supervisor.config import socket_file

SERVER_CLASS = "org.pytorch.serve.ModelServer"
# supervisord's own, inherited by all that descends from it.
MARK = "SUPERVISOR_SERVER_URL"
GRACE_S = 5.0


def is_path(word: str, path: Path) -> bool:
    """Whether a word names this path: to the letter, as the file may be gone, or by way of links."""
    if word == str(path):
        return True
    return word.startswith("/") and word.endswith(f"/{path.name}") and os.path.realpath(word) == os.path.realpath(path)


def is_server(cmdline: list[str], settings: Settings) -> bool:
    """Whether this is the JVM of this kit: TorchServe with our config.properties."""
    config = settings.etc / "config.properties"
    return SERVER_CLASS in cmdline and any(is_path(word, config) for word in cmdline)


def worker_socket(cmdline: list[str], settings: Settings) -> str | None:
    """The name of a worker's socket, if it is a worker of this kit: its socket lies in our TEMP."""
    for flag, value in pairwise(cmdline):
        if flag == "--sock-name":
            folder, _, name = value.rpartition("/")
            return name if is_path(folder, settings.temp) else None
    return None


def is_worker(cmdline: list[str], settings: Settings) -> bool:
    """Whether this is a worker of this kit."""
    return worker_socket(cmdline, settings) is not None


def is_marked(process: psutil.Process, settings: Settings) -> bool:
    """Whether our supervisord has started this process, or one that it descends from."""
    try:
        kind, _, path = process.environ().get(MARK, "").partition("://")
    except psutil.Error:
        return False
    return kind == "unix" and is_path(path, socket_file(settings))


def container(pid: int | str = "self") -> str:
    """What tells a process's container from others and from the host, its namespace of processes; empty where the
    kernel does not say. A container may have the host's name (`--network host`) and the host's paths."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def is_contained(pid: int) -> bool:
    """Whether this process runs in a container that we look into from outside, where our paths are other files."""
    return container(pid) not in {"", container()}


def _alive() -> Iterator[psutil.Process]:
    """Processes that may be ours to end. Another user's never is: sudo shows the command that it runs as its own."""
    for process in psutil.process_iter(["cmdline", "status", "uids"]):
        uids = process.info["uids"]
        if process.info["status"] == psutil.STATUS_ZOMBIE or not uids or os.getuid() not in {0, uids.real}:
            continue
        if not is_contained(process.pid):
            yield process


def programs(settings: Settings) -> list[psutil.Process]:
    """The kit's own programs beside the server, which a supervisord that was killed leaves running; never this process
    or one above it."""
    this = psutil.Process()
    spared = {this.pid, *(parent.pid for parent in this.parents())}
    return [
        one
        for one in _alive()
        if one.pid not in spared and not _is_torchserve(one, settings) and is_marked(one, settings)
    ]


def _is_torchserve(process: psutil.Process, settings: Settings) -> bool:
    cmdline = process.info["cmdline"] or []
    return is_server(cmdline, settings) or is_worker(cmdline, settings)


def our_processes(settings: Settings) -> list[psutil.Process]:
    """JVMs and workers of this kit that are alive, servers first."""
    servers, workers = [], []
    for process in _alive():
        cmdline = process.info["cmdline"] or []
        if is_server(cmdline, settings):
            servers.append(process)
        elif is_worker(cmdline, settings):
            workers.append(process)
    return servers + workers


def everything(settings: Settings) -> list[psutil.Process]:
    """All that runs of this kit but supervisord itself."""
    return programs(settings) + our_processes(settings)


def end(processes: Iterable[psutil.Process], grace_s: float = GRACE_S) -> list[int]:
    """SIGTERM, then SIGKILL after `grace_s` seconds to what is left; returns the pids that were ended.

    A stopped process (SIGSTOP) does not see a SIGTERM: SIGKILL ends it all the same.
    """
    ended = list(processes)
    for process in ended:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(ended, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=10)
    return [process.pid for process in ended]


def clear_folder(folder: Path) -> None:
    """Empty a folder of ours, creating it where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
