"""Where the workers' time went: the difference of their own histograms between two moments.

The workers write prometheus_client's multiprocess files while they serve (handlers/telemetry.py); nothing is
asked of them for this.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.telemetry import WorkerFiles

_STAGE_SECONDS = "embedding_stage_duration_seconds"
_BATCH_TEXTS = "embedding_batch_texts"
_BATCH_TOKENS = "embedding_batch_tokens"
# The order in which a batch goes through them.
ORDER = ("decode", "tokenize", "forward", "encode")

Key = tuple[str, str, str]  # (sample's name, stage or "", upper bound of its bucket or "")
Snapshot = Mapping[Key, float]


@dataclass(frozen=True)
class Stages:
    """One model over one phase of `elapsed_s` with `workers` processes. `seconds`: stage → time of all workers in it;
    `share` the same as a part of the workers' whole time (what is missing to 1 was waiting, the socket and TorchServe's
    side of the worker); `batches`, `texts` and `tokens` are counts, `mean_…` a batch; `batch_texts`: upper bound →
    batches of at most so many texts and more than the bound before.
    """

    elapsed_s: float
    workers: int
    seconds: Mapping[str, float]
    share: Mapping[str, float]
    batches: int
    texts: int
    tokens: int
    mean_batch_texts: float
    mean_batch_tokens: float
    batch_texts: Mapping[str, int]


def snapshot(folder: Path, model: str) -> dict[Key, float]:
    """What the workers of a model, dead ones included, have written so far; empty where they write nothing."""
    found: dict[Key, float] = {}
    for sample in WorkerFiles(folder).read().samples():
        labels = sample.labels
        if labels.get("model") == model:
            key = (sample.name, labels.get("stage", ""), labels.get("le", ""))
            found[key] = found.get(key, 0.0) + sample.value
    return found


def between(before: Snapshot, after: Snapshot, *, elapsed_s: float, workers: int) -> Stages:
    """The stages of the work that was done between two snapshots."""

    def grown(name: str, stage: str = "") -> float:
        key = (name, stage, "")
        return after.get(key, 0.0) - before.get(key, 0.0)

    stages = {stage for name, stage, _ in after if name == f"{_STAGE_SECONDS}_sum"}
    ordered = [*(stage for stage in ORDER if stage in stages), *sorted(stages.difference(ORDER))]
    return _stages(
        elapsed_s=elapsed_s,
        workers=workers,
        seconds={stage: grown(f"{_STAGE_SECONDS}_sum", stage) for stage in ordered},
        counts=tuple(
            round(grown(name)) for name in (f"{_BATCH_TEXTS}_count", f"{_BATCH_TEXTS}_sum", f"{_BATCH_TOKENS}_sum")
        ),
        batch_texts=_histogram(before, after, _BATCH_TEXTS),
    )


def together(parts: Iterable[Stages]) -> Stages:
    """Several phases as one.

    Raises:
        ValueError: there are none.
    """
    parts = list(parts)
    if not parts:
        raise ValueError("no phases to put together")
    names = dict.fromkeys(stage for part in parts for stage in part.seconds)
    bounds = dict.fromkeys(bound for part in parts for bound in part.batch_texts)
    return _stages(
        elapsed_s=sum(part.elapsed_s for part in parts),
        workers=max(part.workers for part in parts),
        seconds={stage: sum(part.seconds.get(stage, 0.0) for part in parts) for stage in names},
        counts=tuple(sum(getattr(part, count) for part in parts) for count in ("batches", "texts", "tokens")),
        batch_texts={bound: sum(part.batch_texts.get(bound, 0) for part in parts) for bound in _rising(bounds)},
    )


def _stages(
    *, elapsed_s: float, workers: int, seconds: dict[str, float], counts: tuple[int, ...], batch_texts: dict[str, int]
) -> Stages:
    batches, texts, tokens = counts
    available = elapsed_s * max(1, workers)
    return Stages(
        elapsed_s=elapsed_s,
        workers=workers,
        seconds=seconds,
        share={stage: taken / available for stage, taken in seconds.items()} if available else {},
        batches=batches,
        texts=texts,
        tokens=tokens,
        mean_batch_texts=texts / batches if batches else 0.0,
        mean_batch_tokens=tokens / batches if batches else 0.0,
        batch_texts=batch_texts,
    )


def _rising(bounds: Iterable[str]) -> list[str]:
    """Upper bounds as prometheus writes them ("2.0", "+Inf"), rising."""
    return sorted(bounds, key=float)


def _histogram(before: Snapshot, after: Snapshot, name: str) -> dict[str, int]:
    """Upper bound → observations in that bucket alone, those without any left out."""
    bucket = f"{name}_bucket"
    bounds = _rising(bound for each, _, bound in after if each == bucket)
    counts: dict[str, int] = {}
    below = 0.0
    for bound in bounds:
        upto = after[bucket, "", bound] - before.get((bucket, "", bound), 0.0)
        if upto > below:
            counts[bound] = round(upto - below)
        below = upto
    return counts
