"""The supervisord of a deployment, found by its process: it may live and not be spoken to, where its socket was removed
(`rm -rf var`), or where it is stopped or spoilt."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from ops.errors import OpsError
from ops.settings import Settings
from ops.supervisor import rpc
from ops.supervisor.config import config_file, socket_file
from ops.torchserve import leftovers

# What supervisord takes to end beyond TorchServe's own time to stop.
STOP_ALLOWANCE_S = 15


def _is_supervisord(cmdline: list[str]) -> bool:
    """Whether Python runs supervisord here, as its script does; sudo's, a pager's or an editor's line only names it."""
    names = [Path(word).name for word in cmdline[:2]]
    return "supervisord" in names and (names[0] == "supervisord" or names[0].startswith("python"))


def _is_of(process: psutil.Process, cmdline: list[str], settings: Settings) -> bool:
    """Whether it was started with our configuration, which need not be there any more, or works in our folder."""
    files = [value for flag, value in pairwise(cmdline) if flag in {"-c", "--configuration"}]
    if any(leftovers.is_path(file, config_file(settings)) for file in files):
        return True
    try:
        return leftovers.is_path(process.cwd(), settings.run)
    except psutil.Error:
        return False


def supervisords(settings: Settings) -> list[psutil.Process]:
    """The living supervisords of this deployment, whosever they are."""
    return [
        one
        for one in psutil.process_iter(["cmdline", "status", "uids", "username"])
        if one.info["status"] != psutil.STATUS_ZOMBIE
        and _is_supervisord(one.info["cmdline"] or [])
        and _is_of(one, one.info["cmdline"], settings)
        and not leftovers.is_contained(one.pid)
    ]


@dataclass(frozen=True)
class Silent:
    """A supervisord that lives and does not answer, and why, in words."""

    pid: int
    why: str

    def __str__(self) -> str:
        return (
            f"supervisord (pid {self.pid}) runs and does not answer ({self.why}): "
            "`embedkit up` replaces it, `embedkit down` ends it"
        )


def silent(settings: Settings) -> Silent | None:
    """The supervisord of this deployment that lives; to be asked when none has answered."""
    for one in supervisords(settings):
        if one.info["status"] == psutil.STATUS_STOPPED:
            return Silent(one.pid, f"it is stopped; `kill -CONT {one.pid}` lets it go on")
        if not socket_file(settings).is_socket():
            return Silent(one.pid, f"its socket {socket_file(settings)} is gone")
        return Silent(one.pid, f"nothing comes back from its socket {socket_file(settings)}")
    return None


def unanswering(settings: Settings) -> Silent | None:
    """The same, asked first whether one answers; None where that is not this user's to ask."""
    try:
        return None if rpc.answers(socket_file(settings)) else silent(settings)
    except PermissionError:
        return None


def end_unsupervised(settings: Settings, say: Callable[[str], None], *, wait_s: float | None = None) -> list[int]:
    """End a supervisord that does not answer, with its programs, and what one that was killed has left; returns the
    pids. supervisord stops its programs in order; after `wait_s` seconds, by default what that takes, it is killed.

    Raises:
        OpsError: it is another user's, or something is still there.
    """
    found = supervisords(settings)
    for one in found:
        if os.getuid() not in {0, one.info["uids"].real}:
            raise OpsError(f"supervisord (pid {one.pid}) is {one.info['username']}'s: run this as that user")
        say(f"ending supervisord (pid {one.pid}) and its programs by signals")
        with contextlib.suppress(psutil.NoSuchProcess):
            one.terminate()
            one.resume()  # one that is stopped takes the other only now
    deadline = time.monotonic() + (settings.stop_timeout_s + STOP_ALLOWANCE_S if wait_s is None else wait_s)
    while found and supervisords(settings) and time.monotonic() < deadline:
        time.sleep(0.1)
    orphans = leftovers.everything(settings)
    ended = leftovers.end([*supervisords(settings), *orphans])
    if orphans:
        say(f"ended {len(orphans)} processes without a supervisor: pids {_pids(orphans)}")
    left = [*supervisords(settings), *leftovers.everything(settings)]
    if left:
        raise OpsError(f"still running: pids {_pids(left)}: `ps -fp` says what each waits for, `kill -9` ends it")
    return [*dict.fromkeys([*(one.pid for one in found), *ended])]


def _pids(processes: Iterable[psutil.Process]) -> str:
    return ", ".join(str(one.pid) for one in processes)
