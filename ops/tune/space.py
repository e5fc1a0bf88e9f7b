"""What can be tuned, and which values are tried: a ladder a dimension, the value of models.toml among its rungs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from archives.catalogue import ModelSpec
from archives.placement import Layout, layout
from env.hardware import Hardware

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
DELAYS_MS = (1, 2, 5, 10, 20)
# A request may wait that long for company before anything is computed: beyond this part of the aim it cannot pay.
DELAY_SHARE = 0.4
# On the CPU a pass takes 1024 tokens (torch) or 1536 (OpenVINO) at most (handlers/shapes.py): what lies above changes
# nothing there.
CPU_BUDGETS, CPU_MOST = (256, 512), 1024
GPU_BUDGETS = (4096, 8192, 16_384, 32_768, 65_536)
WORKERS_A_GPU = (1, 2, 3, 4)


@dataclass(frozen=True, order=True)
class Candidate:
    """One setting of everything that is tuned; the fields are the keys of models.toml."""

    workers: int
    threads: int
    batch_size: int
    max_batch_delay_ms: int
    token_budget: int

    def __str__(self) -> str:
        plural = "s" if self.workers > 1 else ""
        return (
            f"{self.workers} worker{plural} × {self.threads}, batch {self.batch_size}, "
            f"delay {self.max_batch_delay_ms} ms, budget {self.token_budget}"
        )

    def spec(self, base: ModelSpec) -> ModelSpec:
        """The model's entry with these values."""
        return base.model_copy(
            update={
                "workers": self.workers,
                "threads": self.threads,
                "batch_size": self.batch_size,
                "max_batch_delay_ms": self.max_batch_delay_ms,
                "token_budget": self.token_budget,
            }
        )


@dataclass(frozen=True)
class Dimension:
    """One thing that is varied: `rungs` are changes of a candidate, in the order in which throughput may rise."""

    name: str
    rungs: Sequence[dict[str, Any]]

    def at(self, candidate: Candidate) -> int:
        """The rung that a candidate stands on."""
        return next(
            number
            for number, rung in enumerate(self.rungs)
            if all(getattr(candidate, key) == value for key, value in rung.items())
        )

    def moved(self, candidate: Candidate, to: int) -> Candidate | None:
        """The candidate on another rung; None beyond either end."""
        return replace(candidate, **self.rungs[to]) if 0 <= to < len(self.rungs) else None


def start_of(spec: ModelSpec, hardware: Hardware) -> Candidate:
    """What models.toml means now on this hardware, `auto` filled in."""
    placed = layout(spec, hardware)
    return Candidate(placed.workers, placed.threads, spec.batch_size, spec.max_batch_delay_ms, spec.token_budget)


def dimensions(spec: ModelSpec, hardware: Hardware, p99_s: float) -> list[Dimension]:
    """What is varied, in the order in which it is: what promises most first."""
    start, placed = start_of(spec, hardware), layout(spec, hardware)
    layouts = sorted({(start.workers, start.threads), *_layouts(placed, hardware, start.threads)})
    delays = {each for each in DELAYS_MS if each <= max(1.0, DELAY_SHARE * p99_s * 1000)}
    batches = {each for each in BATCHES if each <= spec.queue_size}
    return [
        Dimension("layout", [{"workers": workers, "threads": threads} for workers, threads in layouts]),
        Dimension("batch", _ladder("batch_size", batches | {start.batch_size})),
        Dimension("delay", _ladder("max_batch_delay_ms", delays | {start.max_batch_delay_ms})),
        Dimension("budget", _ladder("token_budget", _budgets(spec, placed) | {start.token_budget})),
    ]


def _ladder(key: str, values: set[int]) -> list[dict[str, Any]]:
    return [{key: value} for value in sorted(values)]


def _layouts(placed: Layout, hardware: Hardware, threads: int) -> list[tuple[int, int]]:
    """(workers, threads): the cores shared out without a thread too many; on GPUs the same number for each."""
    if placed.on_gpu:
        return [(each * max(1, len(hardware.gpus)), threads) for each in WORKERS_A_GPU]
    most_threads: dict[int, int] = {}
    for each in range(1, hardware.cores + 1):
        most_threads[hardware.cores // each] = each
    return list(most_threads.items())


def _budgets(spec: ModelSpec, placed: Layout) -> set[int]:
    """Those that hold the longest text; on the CPU one that is not below the most is there once, as it stands."""
    if placed.on_gpu:
        offered = set(GPU_BUDGETS)
    else:
        offered = {*CPU_BUDGETS} if spec.token_budget >= CPU_MOST else {*CPU_BUDGETS, CPU_MOST}
    return {each for each in offered if each >= (spec.max_tokens or 0)}
