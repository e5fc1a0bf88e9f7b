"""What to do about what was seen. Pure: looks in, actions out, with the caller's clock.

A sign of trouble has to be there in several looks in a row. What is seen in other looks, or of another process, begins
anew. `docs/watchdog.md` says why each sign is one.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass

from ops.supervisor.watchdog.failing import BEYOND_S, LOOKS, Probes
from ops.supervisor.watchdog.life import Life
from ops.supervisor.watchdog.loads import Loads
from ops.supervisor.watchdog.look import TORCHSERVE, Action, Kind, Look, ModelLook, Process, WorkerLook
from ops.supervisor.watchdog.pace import Limits, Pace

STOPPED_LOOKS = 2  # the kernel itself says that the process is stopped
HANG_S = 10.0  # at known short texts alone, which take milliseconds
HANG_FACTOR = 20  # or so many times what the last one took
SERVER_START_S = 60.0  # beside the models' own start-up time
DEFAULT_STARTUP_S = 300.0  # of a model that no look has shown yet
TERM_S = 10.0

LIMITS: Mapping[Kind, Limits] = {
    "end_worker": Limits(5, 30, 10),
    # well below a minute: a model that was mended is to serve within one
    "revive_model": Limits(10, 30, 10),
    "restart_torchserve": Limits(30, 300, 5),
    "start_program": Limits(10, 60, 10),
}


@dataclass
class _Seen:
    """A sign in a row of looks."""

    since: float
    looks: int = 0


class Policy:
    """`spread` gives numbers from 0 to 1 for the jitter."""

    def __init__(self, spread: Callable[[], float], limits: Mapping[Kind, Limits] = LIMITS) -> None:
        self._spread, self._limits = spread, limits
        self._seen: dict[Hashable, _Seen] = {}
        self._next: dict[Hashable, _Seen] = {}
        self._paces: dict[tuple[Kind, str], Pace] = {}
        self._probes, self._loads, self._life = Probes(), Loads(), Life()
        self._answered: Process | None = None
        self._terminated: dict[tuple[int, float], float] = {}
        self._startup_s: float | None = None
        self._response_s: float | None = None

    def step(self, now: float, look: Look, *, may_act: bool = True) -> list[Action]:
        """The actions for this look; `now` in seconds of a clock that never jumps. Where it may not act, signs are
        counted all the same."""
        self._next = {}
        proposed = list(self._propose(now, look))
        self._seen = self._next
        return self._paced(now, proposed) if may_act else []

    def budgets(self, now: float) -> dict[tuple[Kind, str], int]:
        """What is left of each budget that was ever drawn on."""
        return {key: pace.remaining(now) for key, pace in self._paces.items()}

    def _paced(self, now: float, proposed: list[Action]) -> list[Action]:
        taken: list[Action] = []
        begun: set[tuple[Kind, str]] = set()
        for action in proposed:
            key = (action.kind, action.target)
            pace = self._paces.get(key) or Pace(self._limits[action.kind], self._spread)
            # several workers of a model at once are one action; SIGKILL after SIGTERM belongs to the same restart
            again = action.process is not None and action.process.key in self._terminated
            if key not in begun and not again:
                if not pace.due(now):
                    continue
                pace.take(now)
                self._paces[key] = pace
                begun.add(key)
            self._note(now, action)
            taken.append(action)
        return taken

    def _note(self, now: float, action: Action) -> None:
        """Whatever was acted on has to show its signs anew."""
        if action.kind == "restart_torchserve" and action.process is not None:
            self._terminated = {action.process.key: now}
            self._probes.server_ends()
        elif action.kind == "end_worker":
            self._probes.workers_end(action.target)
        elif action.kind == "revive_model":
            self._seen.pop(("no worker", action.target, action.version), None)
            self._seen.pop(("missing", action.target), None)
            self._loads.revives(action.target)

    def _row(self, now: float, *sign: Hashable) -> _Seen:
        """Count this sign in this look."""
        seen = self._seen.get(sign) or _Seen(now)
        seen.looks += 1
        self._next[sign] = seen
        return seen

    def _propose(self, now: float, look: Look) -> Iterator[Action]:
        for program, state in look.programs.items():
            if state == "FATAL" and self._row(now, "fatal", program).looks >= STOPPED_LOOKS:
                yield Action("start_program", program, "supervisord has given it up (FATAL)")
        for model in look.models:
            self._startup_s = max(self._startup_s or 0.0, model.startup_timeout_s)
            self._response_s = max(self._response_s or 0.0, model.response_timeout_s)
        self._loads.hear(look)
        self._life.hear(now, look)
        if look.server is None:
            self._probes.forget()
            return
        self._probes.hear(now, look, self._life.moved)
        server = list(self._server(now, look, look.server))
        yield from server
        if server or not look.answers:
            return
        for name in look.missing:
            if self._row(now, "missing", name).looks >= LOOKS:
                yield Action("revive_model", name, "it is to be served and TorchServe does not have it")
        workers = [action for model in look.models for action in self._workers(now, model, look.server)]
        restarts = [action for action in workers if action.kind == "restart_torchserve"]
        yield from restarts[:1] or workers
        if not restarts:
            yield from self._sick(now, look, look.server, {action.target for action in workers})

    # The server.

    def _server(self, now: float, look: Look, server: Process) -> Iterator[Action]:
        age_s = now - self._row(now, "server", server.key).since
        if look.answers:
            self._answered = server
        reason = ""
        if server.stopped:
            if self._row(now, "server stopped", server.key).looks >= STOPPED_LOOKS:
                reason = "its process is stopped (state T)"
        elif not look.answers:
            loaded = self._answered is not None and self._answered.key == server.key
            grace_s = SERVER_START_S + (self._startup_s or DEFAULT_STARTUP_S)
            if (loaded or age_s > grace_s) and self._row(now, "server silent", server.key).looks >= LOOKS:
                allowed_s = self._vector_within_s(look)
                if self._life.ended(now, allowed_s):
                    reason = (
                        f"its management API has not answered in {LOOKS} looks, no vector has come out of it for "
                        f"{allowed_s:.0f} s, and a probe failed"
                    )
        if reason:
            yield from self._restart(now, server, reason)

    def _vector_within_s(self, look: Look) -> float:
        """How long none need come out of a server that is well: one that may be at users' texts has its own timeout."""
        response_s = self._response_s or DEFAULT_STARTUP_S
        if any(one is None or (one.begun is not None and not one.canaries) for one in look.activities.values()):
            return response_s + BEYOND_S
        return min(response_s, max(HANG_S, HANG_FACTOR * self._probes.slowest_s))

    def _restart(self, now: float, server: Process, reason: str) -> Iterator[Action]:
        told_at = self._terminated.get(server.key)
        if self._life.moved:  # whatever is wrong with it, users get their vectors
            return
        if server.stopped:
            yield Action("restart_torchserve", TORCHSERVE, reason, server, force=True)
        elif told_at is None:
            yield Action("restart_torchserve", TORCHSERVE, reason, server)
        elif now - told_at >= TERM_S:
            yield Action("restart_torchserve", TORCHSERVE, f"{reason}; SIGTERM has not ended it", server, force=True)

    # Single workers.

    def _workers(self, now: float, model: ModelLook, server: Process) -> Iterator[Action]:
        bare = False
        if model.wanted and not model.workers:
            bare = self._row(now, "no worker", model.model, model.version).looks >= LOOKS
        if not self._life.moved and (reason := self._loads.in_vain(model, bare=bare)):
            yield from self._restart(now, server, f"{model.model}: {reason}")
            return
        if bare:
            reason = f"none of its {model.wanted} workers has a process"
            yield Action("revive_model", model.model, reason, version=model.version, workers=model.wanted)
        for worker in model.workers:
            reason = self._hung(now, model, worker)
            if reason:
                yield Action("end_worker", model.model, reason, worker.process)

    def _hung(self, now: float, model: ModelLook, worker: WorkerLook) -> str:
        key, activity = worker.process.key, worker.activity
        age_s = now - self._row(now, "worker", key, worker.ready).since
        if worker.process.stopped:
            looks = self._row(now, "worker stopped", key).looks
            return "its process is stopped (state T)" if looks >= STOPPED_LOOKS else ""
        if not worker.ready and age_s > model.startup_timeout_s + BEYOND_S:
            return f"it is not ready {age_s:.0f} s after its start"
        if activity is None or activity.begun is None:
            return ""
        batch = self._row(now, "batch", key, activity.begun, activity.canaries)
        limit_s = self._limit_s(model, activity.canaries)
        if now - batch.since > limit_s and batch.looks >= LOOKS:
            what = "a known short text" if activity.canaries else "one batch"
            return f"it has been at {what} for more than {limit_s:.0f} s"
        return ""

    def _limit_s(self, model: ModelLook, canaries: bool) -> float:
        if not canaries:
            return model.response_timeout_s + BEYOND_S
        usual_s = self._probes.of(model.model).latency_s
        return min(model.response_timeout_s, max(HANG_S, HANG_FACTOR * usual_s))

    # A model whose workers seem well and that does not answer.

    def _sick(self, now: float, look: Look, server: Process, acted_on: set[str]) -> Iterator[Action]:
        defaults = [model for model in look.models if model.default and model.wanted]
        sick = [model for model in defaults if self._probes.is_sick(now, model)]
        for model in sick:
            if model.model in acted_on:
                continue
            failing = self._probes.of(model.model)
            reason = f"{failing.probes} probes in a row failed: {failing.error}"
            alone = len(sick) < len(defaults)
            if failing.unreachable or (failing.rounds and not alone):
                yield from self._restart(now, server, f"{model.model}: {reason}")
                return
            for worker in model.workers:
                yield Action("end_worker", model.model, reason, worker.process)
