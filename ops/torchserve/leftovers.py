"""Find and end what an earlier TorchServe of this kit left behind: a JVM that lost its supervisor, workers that lost
their JVM. Ours are known by our own paths in their command lines, never by name alone."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil

from ops.settings import Settings

SERVER_CLASS = "org.pytorch.serve.ModelServer"
# The modules that supervisord runs with our settings file; systemd runs others with it.
PROGRAMS = frozenset({"ops.torchserve.launcher", "ops.exporter", "ops.supervisor.watchdog"})


def is_server(cmdline: list[str], settings: Settings) -> bool:
    """Whether this is the JVM of this kit: TorchServe with our config.properties."""
    return SERVER_CLASS in cmdline and str(settings.etc / "config.properties") in cmdline


def worker_socket(cmdline: list[str], settings: Settings) -> str | None:
    """The name of a worker's socket, if it is a worker of this kit: its socket lies in our TEMP."""
    for flag, value in pairwise(cmdline):
        if flag == "--sock-name":
            return Path(value).name if Path(value).parent == settings.temp else None
    return None


def is_worker(cmdline: list[str], settings: Settings) -> bool:
    """Whether this is a worker of this kit."""
    return worker_socket(cmdline, settings) is not None


def is_program(cmdline: list[str], settings: Settings) -> bool:
    """Whether this is another program of ours under supervisord: one with our settings file, or --config=<of ours>."""
    if str(settings.file) in cmdline and not PROGRAMS.isdisjoint(cmdline):
        return True
    if str(settings.etc / "haproxy.cfg") in cmdline:  # master and workers
        return True
    return any(word.partition("=")[2].startswith(f"{settings.etc}/") for word in cmdline)


def _alive() -> Iterator[psutil.Process]:
    """Processes that may be ours to end. Another user's never is: sudo shows the command that it runs as its own."""
    for process in psutil.process_iter(["cmdline", "status", "uids"]):
        uids = process.info["uids"]
        if process.info["status"] != psutil.STATUS_ZOMBIE and uids and os.getuid() in {0, uids.real}:
            yield process


def programs(settings: Settings) -> list[psutil.Process]:
    """The kit's own programs beside the server, which a supervisord that was killed leaves running."""
    return [one for one in _alive() if is_program(one.info["cmdline"] or [], settings)]


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


def end(processes: Iterable[psutil.Process], grace_s: float) -> list[int]:
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
