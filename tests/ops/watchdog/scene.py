"""A service as the policy sees it, look after look, with a clock of the test's."""

from dataclasses import dataclass, field, replace

from ops.probe import Probe
from ops.supervisor.watchdog.clock import TICK_S
from ops.supervisor.watchdog.look import Action, Activity, Look, ModelLook, Process, WorkerLook
from ops.supervisor.watchdog.policy import Policy

GOOD = Probe("minilm", 0.02, 1.0)
TIMEOUT = Probe("minilm", 10.0, None, "no answer within 10 s", "timeout")
FULL = Probe("minilm", 0.01, None, "HTTP 503: no worker or the queue is full", "refused")
GONE = Probe("minilm", 0.01, None, "nothing accepts connections there yet", "unreachable")
IDLE = Activity(texts=0)
PROGRAMS = {"torchserve": "RUNNING", "exporter": "RUNNING", "watchdog": "RUNNING"}


def worker(pid: int, *, ready: bool = True, stopped: bool = False, activity: Activity | None = IDLE) -> WorkerLook:
    return WorkerLook(Process(pid, 1000.0 + pid, stopped), ready, activity)


def model(*workers: WorkerLook, wanted: int = 2, name: str = "minilm") -> ModelLook:
    return ModelLook(name, "1.0", wanted, workers, response_timeout_s=60, startup_timeout_s=300)


WELL = Look(PROGRAMS, Process(7, 1.0), True, (model(worker(11), worker(12)),))


@dataclass
class Scene:
    """A policy without jitter, and its time; `sees` gives the actions of the last of so many looks."""

    policy: Policy = field(default_factory=lambda: Policy(lambda: 0.0))
    now: float = 0.0

    def sees(self, look: Look, *, times: int = 1, may_act: bool = True) -> list[Action]:
        for _ in range(times - 1):
            assert self.step(look, may_act) == []
        return self.step(look, may_act)

    def step(self, look: Look, may_act: bool = True) -> list[Action]:
        self.now += TICK_S
        return self.policy.step(self.now, look, may_act=may_act)

    def until_action(self, look: Look, within_s: float) -> tuple[float, list[Action]]:
        """Seconds from the first of these looks to the first action, and what it is."""
        began = self.now
        while self.now - began < within_s:
            found = self.step(look)
            if found:
                return self.now - began, found
        return within_s, []


def seen(look: Look, *workers: WorkerLook, probes: tuple[Probe, ...] = (), wanted: int = 2) -> Look:
    """The look with these workers and probes."""
    return replace(look, models=(model(*workers, wanted=wanted),), probes=probes)
