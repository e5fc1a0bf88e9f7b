"""What the check does, in numbers: times in seconds, each stage with a limit of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ops.bench.gpu.shape import FULL, SMALL, Shape
from ops.bench.options import Options
from ops.bench.texts import Profile

MODEL = "bge_large_zh"
PROFILES: tuple[Profile, ...] = ("short", "long")
# At the end: the service stops, the report is written.
RESERVE_S = 30.0
_LEAST_ROOM = 64  # connections of the warm-up

# What the stages take at most; on the GPU machine all of them together are expected at about seven minutes.
LIMITS: Mapping[str, float] = {
    "matrix product": 60,
    "model": 60,
    "service": 210,
    "parity": 60,
    "closed loop, short": 90,
    "closed loop, long": 100,
    "bound": 150,
    "infinity": 150,
}


@dataclass(frozen=True)
class Plan:
    """`product_size` is of the square matrices; `seconds` for everything. The rest is what models.toml takes for the
    service, and the load's options.
    """

    device: Literal["cuda", "cpu"]
    small: bool
    seconds: float
    product_size: int
    options: Options
    peer_s: float
    peer_connections: int
    workers: int | Literal["auto"] = "auto"
    threads: int | Literal["auto"] = "auto"
    batch_size: int = 64
    max_batch_delay_ms: int = 1
    token_budget: int = 16_384
    dtype: str = "auto"

    @property
    def shape(self) -> Shape:
        return SMALL if self.small else FULL

    @property
    def judged(self) -> bool:
        """Whether the targets mean anything: a full-size model on a GPU."""
        return self.device == "cuda" and not self.small

    def models_toml(self, folder: str) -> str:
        """The catalogue that is served. Room in the queue for every connection: a refusal here would be an error."""
        room = 2 * max(_LEAST_ROOM, self.peer_connections, *self.options.connections)
        return (
            f"[{MODEL}]\n"
            f'source = {{ folder = "{folder}" }}\nhandler = "bge"\ndevice = "{self.device}"\nbackend = "torch"\n'
            f'dtype = "{self.dtype}"\nworkers = {_toml(self.workers)}\nthreads = {_toml(self.threads)}\n'
            f"batch_size = {self.batch_size}\nmax_batch_delay_ms = {self.max_batch_delay_ms}\n"
            f"token_budget = {self.token_budget}\nqueue_size = {room}\n"
        )


def _toml(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def options(*, small: bool, seed: int, connections: tuple[int, ...] | None = None) -> Options:
    """The load: closed loops alone; an answer now and then is kept and compared with float32."""
    return Options(
        quick=small,
        seed=seed,
        profiles=PROFILES,
        connections=connections or ((64, 256) if small else (64, 128, 256, 512)),
        repeats=1,
        warm_up_s=1.0 if small else 6.0,
        closed_s=2.0 if small else 8.0,
        sample=64 if small else 512,
        trial_s=0.3 if small else 1.5,
        passes=1,  # a second would take infinity's time
        kept=8,
    )
