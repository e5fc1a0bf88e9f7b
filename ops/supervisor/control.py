"""Start supervisord and talk to it over its socket."""

import contextlib
import http.client
import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from supervisor.xmlrpc import Faults

from ops.errors import OpsError
from ops.settings import Settings
from ops.supervisor import process, rpc
from ops.supervisor.config import config_file, socket_file
from ops.supervisor.programs import LONGEST_STOP_S


@dataclass(frozen=True)
class Program:
    """One supervised program. `uptime_s` is 0 unless it runs; `started_at` is the Unix time of its last start, 0 for
    none; `exit_status` that of its last end; `spawn_error` says why a start failed."""

    name: str
    state: str
    pid: int
    uptime_s: int
    started_at: int
    exit_status: int
    spawn_error: str
    log: str

    @property
    def alive(self) -> bool:
        """Whether a process is there, be it too young to be called running."""
        return self.state in {"RUNNING", "STARTING"}


@dataclass(frozen=True)
class Changes:
    """Programs that the configuration has and supervisord has not, has differently, or has no more."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def started(self) -> tuple[str, ...]:
        """Those that taking it starts."""
        return (*self.added, *self.changed)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.started, *self.removed)

    def __bool__(self) -> bool:
        return bool(self.names)


def _program(info: dict[str, Any]) -> Program:
    running = info["statename"] == "RUNNING"
    return Program(
        name=info["name"],
        state=info["statename"],
        pid=info["pid"],
        uptime_s=info["now"] - info["start"] if running else 0,
        started_at=info["start"],
        exit_status=info["exitstatus"],
        spawn_error=info["spawnerr"],
        log=info["stdout_logfile"] or info["stderr_logfile"],  # an event listener's stdout is no log
    )


def environment() -> dict[str, str]:
    """What programs are started with: this environment without Python's own variables, as supervisord fails at every
    call under PYTHONWARNINGS=error."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ["PYTHONNOUSERSITE"] = "1"
    if environ.get("JAVA_HOME"):  # programs start elsewhere, where a relative path means something else
        environ["JAVA_HOME"] = str(Path(environ["JAVA_HOME"]).absolute())
    return environ


class Supervisor:
    """The supervisord of this kit, running or not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # how long supervisord may take to stop a program, and does not answer
        self._stop_s = max(settings.stop_timeout_s, LONGEST_STOP_S) + process.STOP_ALLOWANCE_S

    def _call(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        return rpc.call(socket_file(self._settings), method, *arguments, timeout_s=timeout_s)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """What supervisord does not do, in words; faults that a caller knows how to take do not come this far."""
        try:
            yield
        except xmlrpc.client.Fault as fault:
            said = fault.faultString
            if fault.faultCode != Faults.SHUTDOWN_STATE:
                raise OpsError(f"supervisord refuses ({said}): its log, supervisord.log, says why") from fault
            raise OpsError(f"supervisord is stopping ({said}): run this again in a moment") from fault
        except (xmlrpc.client.Error, http.client.HTTPException, OSError) as error:
            gone = f"supervisord is stopping or gone ({type(error).__name__}): run this again in a moment"
            raise OpsError(str(self.silent() or gone)) from error

    def running(self) -> bool:
        """Whether a supervisord answers on our socket.

        Raises:
            OpsError: one does, and it is another user's.
        """
        try:
            return rpc.answers(socket_file(self._settings))
        except PermissionError as error:
            raise OpsError(
                f"{socket_file(self._settings)} belongs to another user: run this as the user that started it"
            ) from error

    def silent(self) -> process.Silent | None:
        """The supervisord that is alive all the same; to be asked where none answers."""
        return process.silent(self._settings)

    def pid(self) -> int:
        """supervisord's own.

        Raises:
            OpsError: it is shutting down or gone.
        """
        with self._answering():
            return cast(int, self._call("getPID"))

    def started_as(self) -> tuple[list[str], dict[str, str]]:
        """supervisord's command line and environment; makes the folders that it wants to be there."""
        for folder in (self._settings.run, self._settings.logs):
            folder.mkdir(parents=True, exist_ok=True)
        binary = Path(sys.executable).parent / "supervisord"
        return [str(binary), "-c", str(config_file(self._settings))], environment()

    def boot(self) -> None:
        """Start supervisord, which starts its programs; returns when it answers.

        Raises:
            OpsError: it did not start; its own words are in the message.
        """
        command, environ = self.started_as()
        done = subprocess.run(
            command,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise OpsError(f"supervisord did not start: {(done.stderr or done.stdout).strip()}")
        deadline = time.monotonic() + 15
        while not self.running():
            if time.monotonic() > deadline:
                raise OpsError(
                    f"supervisord started but does not answer: see {self._settings.logs / 'supervisord.log'}"
                )
            time.sleep(0.1)

    def programs(self) -> list[Program]:
        """Every program.

        Raises:
            OpsError: supervisord is shutting down or gone.
        """
        with self._answering():
            return [_program(info) for info in self._call("getAllProcessInfo")]

    def program(self, name: str) -> Program:
        """One program.

        Raises:
            OpsError: supervisord is shutting down or gone.
        """
        with self._answering():
            return _program(self._call("getProcessInfo", name))

    def runs(self, name: str) -> bool:
        """Whether there is a supervisord, and under it a program of this name that is up.

        Raises:
            OpsError: supervisord is another user's, shutting down, or does not answer: who knows what runs.
        """
        if self.running():
            return any(one.name == name and one.alive for one in self.programs())
        if silent := self.silent():
            raise OpsError(str(silent))
        return False

    def start(self, name: str) -> None:
        """Start a program, without waiting until it has proved itself; one that runs already is left alone.

        Raises:
            OpsError: it cannot be started; names its log.
        """
        with self._answering():
            try:
                self._call("startProcess", name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == Faults.ALREADY_STARTED:
                    return
                raise OpsError(f"{name} did not start ({fault.faultString}): see {self.program(name).log}") from fault

    def stop(self, name: str) -> None:
        """Stop a program and wait until it is gone; one that is stopped already is left alone.

        Raises:
            OpsError: supervisord refuses, is shutting down or gone.
        """
        with self._answering():
            try:
                self._call("stopProcess", name, timeout_s=self._stop_s)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != Faults.NOT_RUNNING:
                    raise

    def reread(self) -> Changes:
        """Read the configuration again; returns how it differs from what is active.

        Raises:
            OpsError: supervisord is shutting down or gone, or cannot read it.
        """
        with self._answering():
            added, changed, removed = self._call("reloadConfig")[0]
        return Changes(tuple(added), tuple(changed), tuple(removed))

    def take(self, changes: Changes) -> None:
        """Make it active: programs that changed are stopped, replaced and started again.

        Raises:
            OpsError: supervisord refuses, is shutting down or gone.
        """
        with self._answering():
            for name in (*changes.changed, *changes.removed):
                self._call("stopProcessGroup", name, timeout_s=self._stop_s)
                self._call("removeProcessGroup", name)
            for name in changes.started:
                self._call("addProcessGroup", name)

    def reload(self, name: str, signal: str = "HUP") -> None:
        """Have a running program read its configuration again; one that does not run will read it anyway.

        Raises:
            OpsError: supervisord refuses, is shutting down or gone.
        """
        with self._answering():
            try:
                self._call("signalProcess", name, signal)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != Faults.NOT_RUNNING:
                    raise

    def shut_down(self, timeout_s: float) -> None:
        """Stop every program and supervisord itself; returns when it is gone.

        Raises:
            OpsError: it is still there after `timeout_s` seconds.
        """
        pid = 0  # of one that stops already it is not told
        with self._answering():
            try:
                pid = self._call("getPID")
                self._call("shutdown")
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != Faults.SHUTDOWN_STATE:  # it stops already
                    raise
        deadline = time.monotonic() + timeout_s
        while self.running() or any(pid in {0, one.pid} for one in process.supervisords(self._settings)):
            if time.monotonic() > deadline:
                raise OpsError(
                    f"supervisord is still stopping its programs after {timeout_s:.0f} s: run `embedkit down` again"
                )
            time.sleep(0.1)
