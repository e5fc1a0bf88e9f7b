"""Wait until every model answers a real request, and say in the meantime what it waits for."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError
from ops.probe import Probe, Reference, probe
from ops.settings import Settings
from ops.supervisor.control import Supervisor
from ops.torchserve.management import Management, ManagementError

POLL_S = 0.5
# A model that TorchServe could not load is a WARN in its log and absent from its list; listing is late by a moment.
ABSENT_S = 15.0
# A version is waited for once it is registered: without it the server is another one.
GONE_S = 2.0
# TorchServe starts a worker that ends anew, for ever. One that ended this often while it loaded will not load.
LOADS = 3


@dataclass(frozen=True)
class Expected:
    """A model that has to answer: its reference, how long its load may take, in seconds, and which version is meant;
    without one the default, which users get."""

    reference: Reference
    startup_s: float
    version: str = ""


class VersionGoneError(ManagementError):
    """The version that was waited for is not in the server any more."""


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, indented; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64_000))
            content = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in content[-lines:])


def with_log(text: str, log: Path) -> OpsError:
    """An error that ends with the last lines of a log."""
    last = tail(log)
    return OpsError(f"{text}. The last lines of {log}:\n{last}" if last else f"{text}: see {log}")


class _Wait:
    """What one model is at while it is waited for."""

    def __init__(self, model: str, expected: Expected) -> None:
        self.model, self.expected = model, expected
        self.state = "TorchServe is starting"
        self._absent_since: float | None = None
        self._pids: set[int] = set()

    def look(self, settings: Settings, management: Management) -> Probe | None:
        """The right answer, once all workers are ready: `up` leaves behind what was asked for, not a part of it.

        Raises:
            OpsError: it will not come: the archive was not loaded, or the vector is wrong.
        """
        try:
            versions = management.describe(self.model)
        except ManagementError:
            return None
        wanted = self.expected.version
        loaded = next((one for one in versions if not wanted or one.version == wanted), None)
        if loaded is None:
            self._absent(settings)
            return None
        self._absent_since = None
        self.state = f"{loaded.ready} of {loaded.min_workers} workers ready"
        self._pids |= {worker.pid for worker in loaded.workers if worker.pid > 0}
        if loaded.ready < max(1, loaded.min_workers):
            if not loaded.ready and len(self._pids) > LOADS * max(1, loaded.min_workers):
                raise with_log(f"{self.model}: its workers end while they load it", settings.logs / "model.log")
            return None
        found = probe(settings, self.model, self.expected.reference, version=wanted)
        if found.outcome == "wrong_vector":
            raise OpsError(f"{self.model}: {found.error}: run `embedkit verify {self.model}`")
        self.state = found.error or self.state
        return found if found.ok else None

    def _absent(self, settings: Settings) -> None:
        now = time.monotonic()
        self.state = "not registered"
        self._absent_since = self._absent_since or now
        if self.expected.version and now - self._absent_since > GONE_S:
            raise VersionGoneError(f"{self.model}: TorchServe does not have version {self.expected.version} any more")
        if now - self._absent_since > ABSENT_S:
            raise with_log(f"{self.model}: TorchServe could not load its archive", settings.logs / "ts.log")


def wait_until_serving(
    settings: Settings, models: Mapping[str, Expected], progress: Callable[[str], None]
) -> dict[str, Probe]:
    """Probe every model until all have answered with the right vector; returns the answers.

    Raises:
        OpsError: the program died for good, a model is missing from the server, a wrong vector came back, or a model's
            start-up time passed. The message holds the last lines of the log that says why.
    """
    supervisor, management = Supervisor(settings), Management(settings, timeout_s=5)
    waits = [_Wait(model, expected) for model, expected in models.items()]
    answered: dict[str, Probe] = {}
    started = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        program = supervisor.program("torchserve")
        if program.state in {"FATAL", "STOPPED", "BACKOFF"}:  # BACKOFF: it ended before it counted as started
            raise with_log(
                f"torchserve is {program.state} {program.spawn_error}".strip(), settings.logs / "torchserve.log"
            )
        for wait in [one for one in waits if one.model not in answered]:
            found = wait.look(settings, management)
            if found:
                answered[wait.model] = found
                took, alike = found.latency_s * 1000, found.cosine
                progress(f"{wait.model}: answered in {took:.0f} ms, cosine {alike:.6f} to its reference")
                continue
            waited = time.monotonic() - started
            if waited > wait.expected.startup_s:
                text = f"{wait.model}: no answer after {waited:.0f} s ({wait.state})"
                raise with_log(text, settings.logs / "model.log")
            if shown.get(wait.model) != wait.state:
                shown[wait.model] = wait.state
                progress(f"{wait.model}: {wait.state}")
        if len(answered) == len(models):
            return answered
        time.sleep(POLL_S)
