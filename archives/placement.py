"""Decide how many workers a model gets, with how many threads, and whether they will fit."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from env.hardware import Hardware

# Not decided yet: the most it can come to.
BYTES_PER_WEIGHT = {"auto": 4, "float32": 4, "bfloat16": 2, "float16": 2}
# A CUDA context with cuBLAS workspaces, measured at 0.4–0.6 GB on data-centre GPUs, and room for activations.
CUDA_CONTEXT = 600 << 20
CUDA_ACTIVATIONS = 1 << 30
# Python with torch, transformers and sentence-transformers loaded takes 400 MB (a minilm worker is 490 MB resident,
# 91 MB of it weights); the rest is room for a batch.
CPU_WORKER = 600 << 20
WORKERS_PER_GPU = 2  # while one computes, the other tokenizes and encodes


class Placeable(Protocol):
    """The part of a ModelSpec that placement reads."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> Literal["auto", "cpu", "cuda"]: ...
    @property
    def backend(self) -> Literal["auto", "torch", "openvino"]: ...
    @property
    def dtype(self) -> Literal["auto", "float32", "bfloat16", "float16"]: ...
    @property
    def workers(self) -> int | Literal["auto"]: ...
    @property
    def threads(self) -> int | Literal["auto"]: ...


@dataclass(frozen=True)
class Layout:
    """Workers of a model over the whole machine, and the threads of each: they compute, or tokenize for a GPU.

    `on_cpu` is what it is instead where torch turns out not to compute on the GPU, and that is not an error.
    """

    workers: int
    threads: int
    on_gpu: bool
    on_cpu: "Layout | None" = None

    def on(self, device: str) -> "Layout":
        """The layout for the device that was settled on."""
        return self.on_cpu if device == "cpu" and self.on_cpu is not None else self


@dataclass(frozen=True)
class Need:
    """What one model takes: `workers` processes of `worker_bytes` each, on GPUs or in main memory."""

    model: str
    workers: int
    worker_bytes: int
    on_gpu: bool


def layout(spec: Placeable, hardware: Hardware) -> Layout:
    """Fill in `auto`: a worker a core with one thread on CPU, two workers a GPU that share the cores.

    On two cores two workers of one thread answer a quarter more texts than one of two: the threads of one forward
    pass wait for each other, workers do not.
    """
    wants_gpu = spec.device == "cuda" or (spec.device == "auto" and bool(hardware.gpus))
    if not wants_gpu or spec.backend == "openvino":
        return _place(spec, hardware, on_gpu=False)
    on_cpu = _place(spec, hardware, on_gpu=False) if spec.device == "auto" else None
    return replace(_place(spec, hardware, on_gpu=True), on_cpu=on_cpu)


def _place(spec: Placeable, hardware: Hardware, *, on_gpu: bool) -> Layout:
    if spec.workers != "auto":
        workers = spec.workers
    elif on_gpu:
        workers = WORKERS_PER_GPU * max(1, len(hardware.gpus))
    else:
        workers = max(1, hardware.cores // (1 if spec.threads == "auto" else spec.threads))
    # On a GPU they tokenize: a text of 512 tokens takes a core as long as it takes a large GPU.
    threads = max(1, hardware.cores // workers) if spec.threads == "auto" else spec.threads
    return Layout(workers, threads, on_gpu=on_gpu)


def need(spec: Placeable, placed: Layout, weights: int) -> Need:
    """What the model takes. `weights` counts parameters (not bytes)."""
    loaded = weights * BYTES_PER_WEIGHT[spec.dtype]
    return Need(spec.name, placed.workers, loaded + overhead(on_gpu=placed.on_gpu), placed.on_gpu)


def overhead(*, on_gpu: bool) -> int:
    """Bytes that a worker takes beside its weights."""
    return CUDA_CONTEXT + CUDA_ACTIVATIONS if on_gpu else CPU_WORKER


def misfits(needs: Iterable[Need], hardware: Hardware) -> list[str]:
    """What will not fit, a sentence each; empty when everything does.

    TorchServe hands GPUs to a model's workers round robin, from the first on, so GPU i gets the workers whose number
    is i modulo the number of GPUs.
    """
    problems = []
    free = [gpu.memory_free for gpu in hardware.gpus]
    memory = hardware.memory_bytes
    for one in needs:
        if not one.on_gpu:
            total = one.workers * one.worker_bytes
            if total > memory:
                problems.append(
                    f"{one.model}: {one.workers} workers of about {one.worker_bytes >> 20} MB need {total >> 20} MB, "
                    f"{max(memory, 0) >> 20} MB are free: set fewer `workers` for it in models.toml"
                )
            memory -= total
            continue
        if not free:
            problems.append(f"{one.model}: device is cuda and there is no visible GPU")
            continue
        for worker in range(one.workers):
            free[worker % len(free)] -= one.worker_bytes
        for gpu, left in zip(hardware.gpus, free, strict=True):
            if left < 0:
                problems.append(
                    f"{one.model}: its workers on GPU {gpu.index} ({gpu.name}) need {-left >> 20} MB more than the "
                    f"{gpu.memory_free >> 20} MB free: set fewer `workers` or a smaller `dtype` in models.toml"
                )
    return problems
