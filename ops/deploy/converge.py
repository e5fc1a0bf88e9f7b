"""Bring a running server to one archive of a model, step by step, with the desired state written before the default
moves: whatever is killed meanwhile, what comes back is what was promised last."""

import time
from dataclasses import dataclass

from archives.progress import Progress
from ops.deploy.drain import wait_until_quiet
from ops.deploy.plan import MakeDefault, Register, Remove, Step, Verify, next_step
from ops.deploy.removed import add_removed
from ops.deploy.versions import bridge
from ops.desired import Served, begin, commit, desired_file, finish, read_models
from ops.errors import OpsError
from ops.prepare import reference_of
from ops.served import prune, published
from ops.serving import Expected, wait_until_serving
from ops.settings import Settings
from ops.supervisor.control import Supervisor
from ops.torchserve.management import Management, ManagementError

# How often the server may go away meanwhile: one that dies of the new version is not given it for ever.
SETBACKS = 2
POLL_S = 0.5


class RefusedError(OpsError):
    """The new archive does not serve here; the old one does as before."""


@dataclass(frozen=True)
class Limits:
    """Seconds: for a load, and for what is in flight (None: the model's response timeout and half a minute)."""

    startup_s: float
    drain_s: float | None = None


class Converging:
    """One model on its way to one archive. `dropped` names each version that was removed with requests in flight."""

    def __init__(
        self, settings: Settings, target: Served, limits: Limits, progress: Progress, *, rolling_back: bool = False
    ) -> None:
        self._settings, self._target, self._limits, self._progress = settings, target, limits, progress
        self._rolling_back = rolling_back
        self._management = Management(settings)
        self._verified: set[str] = set()
        self.dropped: list[str] = []

    def run(self) -> None:
        """Go on until the target alone is served; until `finish` a rollback goes back from it.

        Raises:
            RefusedError: it does not answer rightly; it is out of the server again.
            OpsError: what else keeps it from going on; the next run goes on from there.
        """
        begin(self._settings, self._target, rolling_back=self._rolling_back)
        self._take_steps()

    def undo(self) -> None:
        """Take out what is not desired, without another look at what is."""
        self._verified = {self._target.version}
        self._take_steps()

    def _take_steps(self) -> None:
        setbacks = 0
        while True:
            try:
                step = next_step(self._target, self._management.describe(self._target.model), self._verified)
                if step is None:
                    self._commit()
                    return
                self._take(step)
            except ManagementError as error:
                setbacks += 1
                if setbacks > SETBACKS:
                    raise
                self._say(f"{error}; waiting for it")
                self._verified.clear()
                self._wait_for_server()

    def _commit(self) -> None:
        commit(self._settings, self._target, rolling_back=self._rolling_back)

    def _take(self, step: Step) -> None:
        model = self._target.model
        match step:
            case Register(version, bridge=bridged):
                self._say(f"loading {self._target.archive} as version {version}")
                name = bridge(self._settings, self._target) if bridged else self._target.archive
                Management(self._settings, timeout_s=self._limits.startup_s).register(model, name)
            case Verify(version):
                self._verify(version)
            case MakeDefault(version):
                self._commit()
                self._management.set_default(model, version)
                self._say(f"requests go to version {version} now")
            case Remove(version):
                self._remove(version)

    def _verify(self, version: str) -> None:
        model = self._target.model
        _, verification = published(self._settings, self._target)
        if verification is None:
            raise OpsError(f"{self._target.archive} was not verified here: run `embedkit up {model}`")
        expected = Expected(reference_of(verification), self._limits.startup_s, version)
        try:
            wait_until_serving(self._settings, {model: expected}, self._progress.say)
        except ManagementError:
            raise
        except OpsError as error:
            raise self._refused(error) from error
        self._verified.add(version)

    def _refused(self, error: OpsError) -> OpsError:
        old = read_models(desired_file(self._settings)).get(self._target.model)
        if old is None or old == self._target:
            command = "rollback" if self._rolling_back else "deploy"
            return OpsError(f"{error}\n`embedkit {command} {self._target.model}` tries it again")
        self._say(f"{self._target.archive} is refused: taking it out again")
        Converging(self._settings, old, self._limits, self._progress).undo()
        prune(self._settings)
        finish(self._settings, self._target.model)
        return RefusedError(f"{self._target.archive} is refused, {old.archive} goes on serving: {error}")

    def _remove(self, version: str) -> None:
        model = self._target.model
        left = wait_until_quiet(
            self._settings, self._management, model, version, limit_s=self._limits.drain_s, say=self._progress.say
        )
        if not left.nothing:
            self.dropped.append(version)
            self._say(f"version {version} still has {left}: removing it all the same")
        removed = self._management.version(model, version)
        add_removed(self._settings, model, len(removed.workers) if removed else 0)
        self._management.unregister(model, version)
        self._say(f"version {version} is removed")

    def _wait_for_server(self) -> None:
        supervisor, deadline = Supervisor(self._settings), time.monotonic() + self._limits.startup_s
        while True:
            program = supervisor.program("torchserve")
            if program.state in {"FATAL", "STOPPED"}:
                raise OpsError(
                    f"torchserve is {program.state}: `supervisorctl start torchserve`, then run this again; "
                    f"log {program.log}"
                )
            late = time.monotonic() > deadline
            try:
                if self._management.describe(self._target.model) or late:
                    return
            except ManagementError:
                if late:
                    raise
            time.sleep(POLL_S)

    def _say(self, line: str) -> None:
        self._progress.say(f"{self._target.model}: {line}")
