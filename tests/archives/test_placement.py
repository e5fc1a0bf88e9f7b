"""How many workers, with how many threads, and whether they fit."""

from dataclasses import dataclass
from typing import Literal

import pytest

from archives.placement import Layout, Need, layout, misfits, need
from env.hardware import Gpu, Hardware

GB = 1 << 30


@dataclass(frozen=True)
class Spec:
    name: str = "m"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Literal["auto", "torch", "openvino"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    workers: int | Literal["auto"] = "auto"
    threads: int | Literal["auto"] = "auto"


def gpu(index: int, free: int) -> Gpu:
    return Gpu(index, f"GPU-{index}", "NVIDIA L4", 24 * GB, free)


CPU = Hardware(8, 32 * GB)
TWO_GPUS = Hardware(16, 128 * GB, (gpu(0, 20 * GB), gpu(1, 20 * GB)), "580.65.06")


@pytest.mark.parametrize(
    ("spec", "machine", "expected"),
    [
        (Spec(), CPU, Layout(8, 1, on_gpu=False)),
        (Spec(threads=4), CPU, Layout(2, 4, on_gpu=False)),
        (Spec(workers=2), CPU, Layout(2, 4, on_gpu=False)),
        (Spec(workers=16), CPU, Layout(16, 1, on_gpu=False)),
        (Spec(threads=9), CPU, Layout(1, 9, on_gpu=False)),
        (Spec(), TWO_GPUS, Layout(4, 4, on_gpu=True, on_cpu=Layout(16, 1, on_gpu=False))),
        (Spec(threads=1), TWO_GPUS, Layout(4, 1, on_gpu=True, on_cpu=Layout(16, 1, on_gpu=False))),
        (Spec(device="cpu"), TWO_GPUS, Layout(16, 1, on_gpu=False)),
        (Spec(backend="openvino"), TWO_GPUS, Layout(16, 1, on_gpu=False)),
        (Spec(device="cuda", workers=3), CPU, Layout(3, 2, on_gpu=True)),
    ],
)
def test_auto_is_filled_in(spec: Spec, machine: Hardware, expected: Layout) -> None:
    """A worker a core on CPU, two a GPU; what is given is kept, and threads never exceed the cores by themselves."""
    assert layout(spec, machine) == expected


def test_what_fits_is_silent() -> None:
    """Models that fit together raise no problem."""
    assert misfits([Need("a", 4, 4 * GB, True), Need("b", 2, GB, False)], TWO_GPUS) == []


def test_the_gpu_that_overflows_is_named() -> None:
    """Three workers go round robin over two GPUs, so GPU 0 gets two; it overflows and is named with the missing MB."""
    problems = misfits([Need("big", 3, 12 * GB, True)], TWO_GPUS)
    assert len(problems) == 1
    assert "big: its workers on GPU 0" in problems[0]
    assert "4096 MB more" in problems[0]


def test_models_share_the_memory() -> None:
    """Two models that fit alone do not fit together: the second one is named."""
    problems = misfits([Need("a", 1, 20 * GB, False), Need("b", 1, 20 * GB, False)], CPU)
    assert [problem.split(":")[0] for problem in problems] == ["b"]


def test_cuda_without_a_gpu_is_a_misfit() -> None:
    """device = "cuda" on a machine without a visible GPU is refused before anything is loaded."""
    assert "no visible GPU" in misfits([Need("m", 1, GB, True)], CPU)[0]


def test_need_counts_weights_by_precision() -> None:
    """Half precision halves the weights' share, a precision not decided yet counts in full; the rest is the same."""
    weights = 326_000_000
    assert need(Spec(dtype="auto"), Layout(2, 1, on_gpu=True), weights) == need(
        Spec(), Layout(2, 1, on_gpu=True), weights
    )
    full = need(Spec(), Layout(2, 1, on_gpu=True), weights)
    half = need(Spec(dtype="float16"), Layout(2, 1, on_gpu=True), weights)
    assert full.worker_bytes - half.worker_bytes == 2 * weights
