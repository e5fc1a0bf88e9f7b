"""How long each part of a trial takes, from the time limit. Pure."""

from dataclasses import dataclass
from typing import Self

from ops.bench.texts import Profile
from ops.errors import OpsError

# Reading a model's weights into its workers, on a slow disk, and what Python and its libraries take beside that.
_BYTES_A_SECOND = 200 << 20
_LOAD_S = 8.0
# TorchServe's own start, and the reference vectors that are computed before the first trial.
_START_S = 12.0
# Part of the limit that is kept for measuring the leaders again.
REPEAT_SHARE = 0.35


@dataclass(frozen=True)
class Plan:
    """Times in seconds. Latency is judged at `load` (0 to 1) of the candidate's own ceiling; `kept` answers of each
    phase, about, are compared with reference vectors. At most `candidates` are tried, the leaders of them `runs` times.
    """

    profile: Profile
    seed: int
    load: float
    p99_s: float
    limit_s: float
    warm_up_s: float
    closed_s: float
    open_s: float
    kept: int = 24
    candidates: int | None = None
    runs: int = 3

    @classmethod
    def within(cls, limit_s: float, *, profile: Profile, seed: int, load: float, p99_s: float) -> Self:
        """Phases that let some ten trials into the limit, as far as they say enough by themselves."""

        def part(share: float, least: float, most: float) -> float:
            return min(most, max(least, share * limit_s))

        return cls(
            profile=profile,
            seed=seed,
            load=load,
            p99_s=p99_s,
            limit_s=limit_s,
            warm_up_s=part(0.01, 1.0, 6.0),
            closed_s=part(0.013, 1.5, 12.0),
            open_s=part(0.027, 2.5, 30.0),
        )

    def check(self, weights_bytes: int, workers: int) -> None:
        """Refuse a limit in which not even one trial ends.

        Raises:
            OpsError: says how long is needed.
        """
        needed = _START_S + self.estimate(weights_bytes, workers)
        if self.limit_s < needed:
            raise OpsError(
                f"--limit {self.limit_s:g}s: one trial of this model takes about {needed:.0f} s, its start included: "
                f"give it {needed:.0f}s at least, and some ten times that to find anything"
            )

    def estimate(self, weights_bytes: int, workers: int) -> float:
        """Seconds of one trial before any was seen."""
        load_s = _LOAD_S + (1 + workers) * weights_bytes / _BYTES_A_SECOND
        return load_s + 2 * self.warm_up_s + self.closed_s + self.open_s
