"""Whether vectors come out of the server: to users, by what its workers tell, or to probes. Pure."""

from ops.supervisor.watchdog.look import Look, Process


class Life:
    """Of the server that was seen last. `moved`: workers that have embedded users' texts since the look before."""

    def __init__(self) -> None:
        self.moved: frozenset[tuple[int, float]] = frozenset()
        self._texts: dict[tuple[int, float], float] = {}
        self._server: Process | None = None
        self._vector_at = 0.0
        self._failed = False

    def hear(self, now: float, look: Look) -> None:
        """Take what has come out since the look before."""
        texts = {key: activity.texts for key, activity in look.activities.items() if activity is not None}
        self.moved = frozenset(key for key, count in texts.items() if count > self._texts.get(key, count))
        self._texts = texts
        another = look.server is None or self._server is None or look.server.key != self._server.key
        self._server = look.server
        if another or self.moved or any(probe.ok or probe.outcome == "wrong_vector" for probe in look.probes):
            self._vector_at, self._failed = now, False
        else:
            self._failed = self._failed or bool(look.probes)

    def ended(self, now: float, allowed_s: float) -> bool:
        """Whether none has come out for that long, and a probe was tried in this time and failed."""
        return self._failed and now - self._vector_at >= allowed_s
