"""`embedkit accept MODEL`: the way of a real model in one go, ending with vectors that make sense."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pynvml
from numpy.typing import NDArray

from archives.progress import Progress
from env.hardware import detect
from ops.embed import embed_texts, similarity
from ops.prepare import known_references, spec_of
from ops.probe import MIN_COSINE, probe
from ops.settings import Settings
from ops.status import ModelStatus, look
from ops.up import bring_up

# (anchor, a text that means the same, a text that does not). The first two languages are what the catalogue's models
# were trained on; a model is judged on the groups that it can tell apart best, and has to manage all of one group.
TRIPLETS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "English": (
        ("How do I reset my password?", "I forgot my login and need a new one.", "The cat sleeps on the sofa."),
        ("The stock market fell sharply today.", "Shares dropped a lot this afternoon.", "Bake the bread for an hour."),
        ("She plays the violin in an orchestra.", "She is a musician.", "The engine needs more oil."),
    ),
    "Chinese": (
        ("教练, 我想打篮球.", "我想学习怎么打篮球.", "今天的股票市场大幅下跌."),
        ("如何重置密码?", "我忘记了登录密码, 怎么办?", "面包要烤一个小时."),
        ("怎么训练bert模型", "训练BERT的方法", "猫在沙发上睡觉."),
    ),
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    check: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """All checks of one model."""

    model: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def margins(vectors: NDArray[np.float32]) -> list[float]:
    """How much nearer each anchor is to its like than to its unlike; vectors come as (3 × triplets, dimensions)."""
    alike = similarity(vectors)
    return [float(alike[row, row + 1] - alike[row, row + 2]) for row in range(0, len(vectors), 3)]


def sense(by_language: Mapping[str, list[float]]) -> Check:
    """Whether the vectors mean something: every like nearer than its unlike, in at least one language."""
    told = {
        language: f"{language} {sum(m > 0 for m in found)} of {len(found)}" for language, found in by_language.items()
    }
    ok = any(all(margin > 0 for margin in found) for found in by_language.values())
    smallest = max(min(found) for found in by_language.values())
    return Check(
        "meaning", ok, f"likes nearer than unlikes: {', '.join(told.values())}; smallest margin {smallest:+.3f}"
    )


def gpu_processes() -> dict[int, int]:
    """pid → bytes of GPU memory, over all GPUs; empty where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        held: dict[int, int] = {}
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                held[process.pid] = held.get(process.pid, 0) + int(process.usedGpuMemory or 0)
        return held
    except pynvml.NVMLError:
        return {}
    finally:
        pynvml.nvmlShutdown()


def device_check(wanted: str, model: ModelStatus, has_gpu: bool, held: Mapping[int, int]) -> Check:
    """Whether the workers compute where they should: on the GPU if one is asked for, or if there is one for `auto`."""
    on_gpu = all(device.startswith("cuda") for device in model.devices) and bool(model.devices)
    should = wanted == "cuda" or (wanted == "auto" and has_gpu)
    detail = f"{', '.join(model.devices) or 'unknown'} ({model.device_reason})"
    if not should:
        return Check("device", not on_gpu, detail)
    memory = [held.get(pid, 0) for pid in model.pids]
    if held:
        detail += f"; GPU memory of its workers: {', '.join(f'{taken >> 20} MB' for taken in memory)}"
    return Check("device", on_gpu and (not held or all(pid in held for pid in model.pids)), detail)


def accept_model(settings: Settings, name: str, progress: Progress) -> Report:
    """Fetch, pack, verify, serve and judge a model.

    Raises:
        OpsError, ArchivesError: a step before the judgement failed; its message says why.
    """
    spec = spec_of(settings, name)
    up = bring_up(settings, [name], progress)
    desired, references = known_references(settings)
    served = f"{desired[name].archive}, verified and answering in {up.probes[name].latency_s * 1000:.0f} ms"
    checks = [Check("served", True, served)]

    progress.say(f"{name}: comparing meaning and parity over HTTP")
    answered: dict[str, Any] = {}
    for language, triplets in TRIPLETS.items():
        texts = [text for triplet in triplets for text in triplet]
        answered[language] = embed_texts(settings, texts, model=name)
    checks.append(sense({language: margins(answer.vectors) for language, answer in answered.items()}))
    lengths = np.concatenate([np.linalg.norm(answer.vectors, axis=1) for answer in answered.values()])
    off = float(np.abs(lengths - 1).max())
    checks.append(Check("normalised", off < 1e-3, f"lengths differ from 1 by at most {off:.1e}"))

    found = probe(settings, name, references[name])
    parity = (
        f"cosine {found.cosine:.6f} to sentence-transformers in float32, at least {MIN_COSINE}"
        if found.ok
        else found.error
    )
    checks.append(Check("parity", found.ok, parity))

    status = next(one for one in look(settings, {name: desired[name]}, references).models)
    checks.append(Check("workers", status.ok, f"{status.workers_ready} of {status.workers_wanted} ready"))
    checks.append(device_check(spec.device, status, bool(detect().gpus), gpu_processes()))
    return Report(name, tuple(checks))
