"""Which values are tried on which hardware."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archives.catalogue import ModelSpec
from archives.sources import FolderSource
from env.hardware import Gpu, Hardware
from ops.tune.space import Candidate, Dimension, dimensions, start_of

GPU = Gpu(0, "GPU-1", "a GPU", 80 << 30, 79 << 30)


def spec(**values: Any) -> ModelSpec:
    return ModelSpec(name="m", source=FolderSource(folder=Path("/m")), **values)


def machine(cores: int, gpus: int = 0) -> Hardware:
    return Hardware(cores, 16 << 30, (GPU,) * gpus)


def rungs(entry: ModelSpec, hardware: Hardware, name: str, p99_s: float = 0.05) -> list[Any]:
    """The values of a dimension's rungs, bare where it is of one key."""
    found = next(one for one in dimensions(entry, hardware, p99_s) if one.name == name)
    values = [tuple(rung.values()) for rung in found.rungs]
    return [value[0] if len(value) == 1 else value for value in values]


@pytest.mark.parametrize("cores", [1, 2, 3, 6, 7, 16])
def test_layouts_never_oversubscribe_and_use_the_cores(cores: int) -> None:
    """Workers times threads stay within the cores, and no rung could have a thread more."""
    found = rungs(spec(), machine(cores), "layout")
    assert all(workers * threads <= cores < workers * (threads + 1) for workers, threads in found)
    assert {(cores, 1), (1, cores)} <= set(found)
    assert found == sorted(found)


def test_what_models_toml_says_is_among_the_rungs() -> None:
    """Also where it is a value that would not be tried otherwise; the start stands on a rung of every ladder."""
    entry = spec(workers=3, threads=2, batch_size=24, max_batch_delay_ms=40, token_budget=700)
    start = start_of(entry, machine(2))
    assert start == Candidate(3, 2, 24, 40, 700)
    ladders = dimensions(entry, machine(2), 0.05)
    assert [one.rungs[one.at(start)] for one in ladders] == [
        {"workers": 3, "threads": 2},
        {"batch_size": 24},
        {"max_batch_delay_ms": 40},
        {"token_budget": 700},
    ]
    assert start.spec(spec()) == entry


def test_a_gpu_has_ladders_of_its_own() -> None:
    """Workers for each of two GPUs; budgets that a GPU can fill."""
    assert [workers for workers, _ in rungs(spec(), machine(8, gpus=2), "layout")] == [2, 4, 6, 8]
    assert rungs(spec(), machine(8, gpus=2), "budget") == [4096, 8192, 16384, 32768, 65536]
    assert rungs(spec(device="cpu"), machine(8, gpus=2), "budget") == [256, 512, 16384]


def test_bounds_of_the_model_hold() -> None:
    """No batch beyond the queue, no budget below the longest text, no delay that the aim forbids."""
    assert max(rungs(spec(queue_size=40), machine(2), "batch")) == 32
    assert rungs(spec(max_tokens=512), machine(2), "budget") == [512, 16384]
    assert rungs(spec(), machine(2), "delay", p99_s=0.02) == [1, 2, 5]
    assert rungs(spec(), machine(2), "delay", p99_s=0.001) == [1]


def test_a_ladder_ends() -> None:
    """Beyond its first and last rung there is nothing."""
    ladder = Dimension("batch", [{"batch_size": 8}, {"batch_size": 16}])
    low = Candidate(1, 1, 8, 2, 512)
    assert ladder.moved(low, 1) == replace(low, batch_size=16)
    assert (ladder.moved(low, -1), ladder.moved(low, 2)) == (None, None)
