"""How long and how much: the plan's numbers."""

from dataclasses import dataclass
from typing import Self

from ops.bench.texts import PROFILES, Profile
from ops.errors import OpsError

OVERLOAD = 1.2


@dataclass(frozen=True)
class Options:
    """What one benchmark does. Times in seconds of each phase; `fractions` of the ceiling for the open loop, besides
    the overload at 120 %. Texts a profile: at most `sample`, for about `trial_s` each, to choose the batch size in
    process, where the fastest of `passes` counts; `alone` go one by one; `kept` answers of each phase are compared
    with reference vectors. `peers`: names of other servers to compare with.
    """

    quick: bool
    seed: int = 1
    profiles: tuple[Profile, ...] = ("short", "mixed", "passages")
    connections: tuple[int, ...] = (1, 16, 64, 128)
    fractions: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    repeats: int = 3
    warm_up_s: float = 10.0
    closed_s: float = 10.0
    open_s: float = 20.0
    overload_s: float = 20.0
    sample: int = 512
    trial_s: float = 1.5
    passes: int = 2
    alone: int = 200
    kept: int = 24
    peers: tuple[str, ...] = ()

    @classmethod
    def full(cls, seed: int = 1) -> Self:
        return cls(quick=False, seed=seed)

    @classmethod
    def short(cls, seed: int = 1) -> Self:
        """Under two minutes on a machine that has nothing else to do; good for a look, not for a figure to quote."""
        return cls(
            quick=True,
            seed=seed,
            profiles=("short", "mixed"),
            connections=(1, 128),
            fractions=(0.4, 0.8),
            repeats=1,
            warm_up_s=2.0,
            closed_s=3.0,
            open_s=4.0,
            overload_s=5.0,
            sample=96,
            trial_s=0.4,
            passes=1,
            alone=40,
            kept=8,
        )


def known_profiles(names: list[str]) -> tuple[Profile, ...]:
    """The profiles of these names, each once.

    Raises:
        OpsError: there is no such profile.
    """
    for name in names:
        if name not in PROFILES:
            raise OpsError(f"--profile {name}: no such kind of text; known: {', '.join(PROFILES)}")
    return tuple(profile for profile in PROFILES if profile in names)
