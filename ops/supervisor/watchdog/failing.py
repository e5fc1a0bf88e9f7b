"""Models whose workers seem well and that do not answer: probes that fail while nothing else gets on. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from ops.probe import Probe
from ops.supervisor.watchdog.look import Look, ModelLook

LOOKS = 3  # in a row
BEYOND_S = 10.0  # over TorchServe's own timeouts: what it should have ended by then


@dataclass
class Failing:
    """Looks in a row with failed probes of a model; `rounds` of ended workers that did not help; `latency_s` of the
    last good probe."""

    probes: int = 0
    since: float = 0.0
    error: str = ""
    unreachable: bool = False
    rounds: int = 0
    latency_s: float = 0.0


class Probes:
    """What has come back, by model."""

    def __init__(self) -> None:
        self._failing: dict[str, Failing] = {}

    @property
    def slowest_s(self) -> float:
        """The longest that a last good probe took."""
        return max((one.latency_s for one in self._failing.values()), default=0.0)

    def of(self, model: str) -> Failing:
        return self._failing.setdefault(model, Failing())

    def forget(self) -> None:
        """There is no server that could answer."""
        self._failing.clear()

    def server_ends(self) -> None:
        for failing in self._failing.values():
            failing.probes = 0

    def workers_end(self, model: str) -> None:
        """Its workers are ended; if for its failing probes, that is a round."""
        failing = self.of(model)
        failing.rounds += failing.probes >= LOOKS
        failing.probes = 0

    def hear(self, now: float, look: Look, moved: Collection[tuple[int, float]]) -> None:
        """Count what came back of models that have a ready worker, once a look; users that get their vectors outweigh
        it: `moved` are the workers that have embedded users' texts. A wrong vector is for people to judge."""
        progress = {model.model for model in look.models for one in model.workers if one.process.key in moved}
        for model in progress:
            self.of(model).probes = self.of(model).rounds = 0
        ready = {model.model for model in look.models if model.default and model.ready}
        for name in set(self._failing) - ready:
            self.of(name).probes = 0  # it loads, or TorchServe is about to start its workers
        failed: dict[str, Probe] = {}
        for probe in look.probes:
            if probe.ok:
                self._failing[probe.model] = Failing(latency_s=probe.latency_s)
                failed.pop(probe.model, None)
            elif probe.outcome != "wrong_vector" and probe.model in ready - progress:
                failed[probe.model] = probe
        for name, probe in failed.items():
            self._failed(now, self.of(name), probe)

    def _failed(self, now: float, failing: Failing, probe: Probe) -> None:
        failing.since = failing.since if failing.probes else now
        failing.probes += 1
        failing.error, failing.unreachable = probe.error, probe.outcome == "unreachable"

    def is_sick(self, now: float, model: ModelLook) -> bool:
        """Whether it should answer and does not; one that may be at users' texts has the model's own timeout."""
        failing = self.of(model.model)
        if failing.probes < LOOKS:
            return False
        ready = [worker for worker in model.workers if worker.ready]
        at_work = any(one.activity and one.activity.begun is not None and not one.activity.canaries for one in ready)
        if at_work or any(one.activity is None for one in ready):
            return now - failing.since > model.response_timeout_s + BEYOND_S
        return True
