"""Models that have lost all workers and that get no new ones: the server has lost what it loads them from, as when its
TEMP was emptied, and only another one unpacks it anew. Pure."""

from dataclasses import dataclass, field

from ops.supervisor.watchdog.look import Look, ModelLook, Process

LOADS = 3  # of each worker


@dataclass
class _Loads:
    """Since the model was last ready: the workers that load, how many have ended at that, whether it was revived."""

    loading: set[tuple[int, float]] = field(default_factory=set)
    ended: int = 0
    revived: bool = False


class Loads:
    """What becomes of the workers that a server starts for models that were ready in it. One that never was ready there
    is not better off in the next one."""

    def __init__(self) -> None:
        self._server: Process | None = None
        self._models: dict[str, _Loads] = {}

    def hear(self, look: Look) -> None:
        """Count what has ended since the look before."""
        if look.server is None or self._server is None or look.server.key != self._server.key:
            self._server, self._models = look.server, {}
        for model in look.models:
            if model.default and model.ready:
                self._models[model.model] = _Loads()
            elif model.default and model.model in self._models:
                loads = self._models[model.model]
                alive = {worker.process.key for worker in model.workers}
                loads.ended += len(loads.loading - alive)
                loads.loading = alive

    def revives(self, model: str) -> None:
        """It is scaled to 0 and back."""
        if model in self._models:
            self._models[model].revived = True

    def in_vain(self, model: ModelLook, *, bare: bool) -> str:
        """Why it will not come to be ready in this server, or nothing; `bare`: for some looks it has had no worker."""
        loads = self._models.get(model.model)
        if loads is None or not model.default or not model.wanted:
            return ""
        if bare and loads.revived:
            return "it was revived, and none of its workers has a process"
        if loads.ended >= LOADS * model.wanted:
            return f"{loads.ended} workers in a row have ended while they loaded it"
        return ""
