"""The arithmetic behind the figures, what a run says of itself, and its time limits."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import torch
from transformers import BertConfig, BertModel

from archives.catalogue import load_catalogue
from ops.bench.gpu import judge, page, sampler
from ops.bench.gpu.clock import Clock, OutOfTimeError
from ops.bench.gpu.plan import LIMITS, MODEL, PROFILES
from ops.bench.gpu.product import flops_of_product, measure
from ops.bench.gpu.run import plan_of
from ops.bench.gpu.shape import FULL, SMALL, Shape, utilisation
from ops.bench.gpu.stages import Measured
from ops.bench.truth import Truth
from ops.console import to_plain
from tests.ops.bench.gpu.sample import arguments, measured
from tests.ops.bench.sample import PHASE, RESULT


def test_a_text_of_512_tokens_takes_335_gflop() -> None:
    """In the shape of bge-large-zh; two thirds of a layer's work lie in its inner matrices."""
    assert FULL.flops(512) == 24 * (24 * 512 * 1024**2 + 4 * 512**2 * 1024) == pytest.approx(335e9, rel=0.002)


def test_flops_are_those_that_torch_counts() -> None:
    """torch's own counter on the real encoder, pooler left out, with attention as plain matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    shape = Shape(layers=2, hidden=64, heads=4)
    config = BertConfig(
        vocab_size=99, num_hidden_layers=2, hidden_size=64, num_attention_heads=4, intermediate_size=256,
        attn_implementation="eager",
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.ones(3, 40, dtype=torch.long))
    assert counter.get_total_flops() == 3 * shape.flops(40)


def test_utilisation_is_served_work_over_the_product_rate() -> None:
    """1,194 texts a second of 335 GFLOP are half of 800 TFLOP/s; the mean is over texts, not tokens."""
    assert utilisation(1194, FULL.flops(512), 800e12) == pytest.approx(0.5, rel=0.001)
    assert SMALL.mean_flops([8, 512]) == (SMALL.flops(8) + SMALL.flops(512)) / 2


def test_a_product_is_measured_on_this_processor() -> None:
    """A rate that is positive, from as many rounds as are told."""
    found = measure("cpu", 256)
    assert found["flops_per_s"] > 0
    assert len(found["rounds"]) == 7
    assert flops_of_product(256) == 2 * 256**3


def test_the_model_that_is_served_is_what_the_flags_say(tmp_path: Path) -> None:
    """models.toml is one that the catalogue reads, with room in the queue for every connection."""
    plan = plan_of(arguments("cuda", "--workers", "3", "--threads", "4", "--batch-size", "96"))
    (tmp_path / "models.toml").write_text(plan.models_toml("model"))
    spec = load_catalogue(tmp_path / "models.toml")[MODEL]
    assert (spec.device, spec.backend, spec.workers, spec.threads, spec.batch_size) == ("cuda", "torch", 3, 4, 96)
    assert spec.queue_size >= 512
    plan = plan_of(arguments("cpu", "--small", "--connections", "4"))
    (tmp_path / "models.toml").write_text(plan.models_toml("model"))
    spec = load_catalogue(tmp_path / "models.toml")[MODEL]
    assert spec.workers == "auto"
    assert spec.queue_size >= 64  # what warms up and what goes before infinity has connections of its own


def test_targets_are_judged_on_a_gpu_alone() -> None:
    """Missed and met as the figures say; none for the CPU or the small model, and the headline says why."""
    found = measured()
    bars = {bar.what: bar.met for bar in judge.bars(plan_of(arguments("cuda")), found)}
    assert bars == {
        "short: texts a second": False,
        "short: served over the in-process bound": True,
        "512 tokens: part of the matrix product's rate": True,
        "long: served over the in-process bound": True,
    }
    assert judge.bars(plan_of(arguments("cuda", "--small")), found) == []
    assert judge.bars(plan_of(arguments("cpu")), found) == []
    assert "no GPU figure" in judge.headline(plan_of(arguments("cpu")), found, {})
    assert "no GPU figure" not in judge.headline(plan_of(arguments("cuda")), found, {})


def test_what_went_wrong_comes_first() -> None:
    """Failed stages, then errors, then wrong vectors, then figures."""
    found = measured()
    found.phases = SimpleNamespace(errors=3, requests=9)  # type: ignore[assignment]
    found.parity = Truth(45, 2, 0.5, 0.999, "a text")
    said = judge.headline(plan_of(arguments("cuda")), found, {"bound": "its 150 s are over"})
    assert said.startswith("FAILED: bound; 3 ERRORS; 2 compared vectors WRONG; short 1200 texts a second")


def rendered(found: Measured, failed: dict[str, str]) -> str:
    plan = plan_of(arguments("cuda"))
    result: dict[str, Any] = {
        "headline": judge.headline(plan, found, failed), "errors": found.errors, "failed": failed,
        "stages_took_s": {"service": 93.0}, "started_at": "2026-01-01T00:00:00+00:00", "seconds": 400.0,
        "machine": RESULT.machine, "plan": plan, "bars": judge.bars(plan, found), **found.as_json(),
    }  # fmt: skip
    return page.render(orjson.loads(orjson.dumps(result, default=to_plain)))


def test_the_page_has_the_figures() -> None:
    """Utilisation, the GPU's usage, infinity, targets missed; nothing is loaded from anywhere."""
    html = rendered(measured(), {})
    for words in ("50.3%", "97%", "612", "1,755 (1700)", "9,216", "infinity", "missed", "800.0 TFLOP/s", "0.999870"):
        assert words in html, words
    assert "http://www.w3.org" in html
    assert "<script" not in html
    assert "src=" not in html


def test_the_page_of_a_run_that_failed_early_says_why() -> None:
    """Nothing was measured: the reason is there, and no figure."""
    html = rendered(Measured(), {"service": "there is no room on <the disk>"})
    assert "service failed" in html
    assert "&lt;the disk&gt;" in html
    assert "FAILED: service" in html


def test_a_server_that_answered_nothing_has_no_ratio() -> None:
    """A dash, and not that this kit is 0.00 times as fast."""
    found = measured()
    found.peers = [replace(found.peers[0], figures=replace(PHASE, answered=0, texts_per_s=0.0), ratio=0.0)]
    html = rendered(found, {})
    assert "<td>–</td></tr>" in html
    assert ">0.00<" not in html


class Nvml:
    """What NVML answers, two readings of a busy card, then an error."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.left = 2

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's names

    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802
        self.left -= 1
        if self.left < 0:
            raise Nvml.NVMLError("GPU is lost")
        return SimpleNamespace(gpu=90 + self.left, memory=40)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        return 500_000

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        return 1700 + self.left

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=5 << 30)


def test_usage_is_sampled_and_a_lost_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings until the error count, and the error stands beside them; without a GPU there is no usage at all."""
    monkeypatch.setattr(sampler, "pynvml", Nvml())
    monkeypatch.setattr(sampler, "EVERY_S", 0.01)
    with sampler.watch("GPU-1") as seen:
        time.sleep(0.2)
    assert sampler.together(seen.readings) == sampler.Usage(2, 0.905, 0.9, 500.0, 1700.5, 1700, 5 << 30)
    assert seen.error == "GPU is lost"
    with sampler.watch(None) as none:
        pass
    assert sampler.as_json(none, 0.0, time.monotonic()) == {"usage": None, "error": "no GPU"}


def test_what_the_gpu_does_before_and_after_the_load_does_not_count() -> None:
    """A load from 10 to 14, watched from 8 to 16; NVML looks a second back, so that readings count from 11 on."""
    load = (10.0, 14.0)
    readings = [
        sampler.Reading(at / 5, 0.9 if load[0] + 1 <= at / 5 <= load[1] else 0.0, 500.0, 1700, 1 << 30)
        for at in range(40, 81)
    ]
    seen = sampler.Watched(readings=readings)
    usage = sampler.as_json(seen, *load)["usage"]
    assert isinstance(usage, sampler.Usage)
    assert (usage.readings, usage.busy_p10) == (16, 0.9)
    assert usage.busy == pytest.approx(0.9)
    none = sampler.as_json(seen, 10.0, 10.5)
    assert none == {"usage": None, "error": "no reading later than 1 s into the load"}


def test_a_stage_ends_when_its_time_is_up() -> None:
    """Also in the middle of asyncio, whose callbacks keep other exceptions; afterwards no alarm is set."""

    async def busy() -> None:
        while True:
            await asyncio.sleep(0)

    clock = Clock(100, reserve_s=10)
    started = time.monotonic()
    with pytest.raises(OutOfTimeError, match="over"), clock.limit(0.2):
        asyncio.run(busy())
    with clock.limit(0.2) as given:
        assert given == 0.2
    time.sleep(0.3)
    assert time.monotonic() - started < 5
    assert 85 < clock.left < 90


def test_without_time_a_stage_is_not_begun() -> None:
    """What is kept for the end is not given away."""
    with pytest.raises(OutOfTimeError, match="no time"), Clock(10, reserve_s=10).limit(5):
        pytest.fail("it ran")


def test_every_stage_has_a_limit_below_all_of_the_time() -> None:
    """None of them may take nine minutes by itself."""
    assert all(0 < seconds < 300 for seconds in LIMITS.values())
    assert {f"closed loop, {profile}" for profile in PROFILES} < set(LIMITS)
