"""Two scrapes of the exporter → the figures that somebody on call looks at. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

STAGES = ("decode", "tokenize", "forward", "encode")

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """What the exporter said at a monotonic time: sample's name → labels → value."""

    at_s: float
    samples: Mapping[str, Mapping[Labels, float]]

    def of(self, name: str, /, **wanted: str) -> Mapping[Labels, float]:
        """The samples of that name which have these labels."""
        pairs = set(wanted.items())
        return {labels: value for labels, value in self.samples.get(name, {}).items() if pairs <= labels}

    def total(self, name: str, /, **wanted: str) -> float | None:
        """Their sum; None where there is none."""
        found = self.of(name, **wanted)
        return sum(found.values()) if found else None


def parse(text: str, at_s: float) -> Scrape:
    """One answer of /metrics.

    Raises:
        ValueError: it is none.
    """
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return Scrape(at_s, samples)


def grown(before: Scrape, after: Scrape, name: str, /, **wanted: str) -> float:
    """By how much a counter has grown, over all its series; one that was reset has grown from 0."""
    then = before.of(name, **wanted)
    total = 0.0
    for labels, value in after.of(name, **wanted).items():
        old = then.get(labels, 0.0)
        total += value - old if value >= old else value
    return total


def quantile(part: float, before: Scrape, after: Scrape, name: str, /, **wanted: str) -> float | None:
    """As Prometheus' histogram_quantile computes it from the growth of the buckets; None without observations."""
    bounds = sorted({float(dict(labels)["le"]) for labels in after.of(f"{name}_bucket", **wanted)})
    spelled = {float(dict(labels)["le"]): dict(labels)["le"] for labels in after.of(f"{name}_bucket", **wanted)}
    counts = [grown(before, after, f"{name}_bucket", **wanted, le=spelled[bound]) for bound in bounds]
    if not counts or counts[-1] <= 0:
        return None
    rank = part * counts[-1]
    below, low = 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count >= rank and count > below:
            return low if bound == float("inf") else low + (bound - low) * (rank - below) / (count - below)
        below, low = count, bound
    return low


@dataclass(frozen=True)
class ModelFigures:
    """One model between two scrapes. Rates are a second, times seconds; None where nothing was seen."""

    model: str
    requests_per_s: float
    errors_per_s: Mapping[str, float]  # by status from 400 on
    p50_s: float | None
    p99_s: float | None
    texts_per_s: float
    tokens_per_s: float
    padding_share: float | None
    stage_share: Mapping[str, float]  # of the time that workers spent on batches
    stage_p50_s: Mapping[str, float | None]
    mean_batch_texts: float | None
    queue: float | None
    queue_capacity: float | None
    workers_ready: float | None
    workers_wanted: float | None
    canary: str  # "ok", "failing" or "none yet"
    canary_cosine: float | None
    canary_age_s: float | None


@dataclass(frozen=True)
class ProgramFigures:
    """One program of supervisord. `started_at` in Unix time."""

    program: str
    state: str
    started_at: float
    exit_status: int


@dataclass(frozen=True)
class GpuFigures:
    """One GPU; what it does not tell is None."""

    uuid: str
    name: str
    utilization: float | None
    memory_used: float | None
    memory_total: float | None
    power_watts: float | None
    temperature: float | None
    throttled: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """Everything on the screen. `worker_starts`, `watchdog_actions`: what happened between the scrapes."""

    interval_s: float
    models: tuple[ModelFigures, ...]
    other_per_s: float
    programs: tuple[ProgramFigures, ...]
    gpus: tuple[GpuFigures, ...]
    torchserve_up: bool
    watchdog_paused: bool
    watchdog_actions: int
    worker_starts: int
    sources_down: tuple[str, ...]
    memory_available: float | None
    load1: float | None


def names(scrape: Scrape) -> list[str]:
    """The models that the exporter knows, without "other"."""
    seen = ("embedding_device_expected", "torchserve_workers", "embedding_request_duration_seconds_count")
    found = {dict(labels).get("model", "") for name in seen for labels in scrape.of(name)}
    return sorted(found - {"", "other"})


def figures(before: Scrape, after: Scrape, now: float) -> Figures:
    """What happened between two scrapes, and how things are at the second; `now` in Unix time."""
    seconds = max(after.at_s - before.at_s, 1e-9)
    started = "torchserve_worker_start_time_seconds"
    return Figures(
        interval_s=seconds,
        models=tuple(_model(name, before, after, seconds, now) for name in names(after)),
        other_per_s=grown(before, after, "embedding_request_duration_seconds_count", model="other") / seconds,
        programs=tuple(_programs(after)),
        gpus=tuple(_gpus(after)),
        torchserve_up=after.total("torchserve_up") == 1,
        watchdog_paused=after.total("watchdog_paused") == 1,
        watchdog_actions=int(grown(before, after, "watchdog_actions_total")),
        worker_starts=len(set(after.of(started)) - set(before.of(started))),
        sources_down=tuple(sorted(dict(key)["source"] for key, up in after.of("embedkit_source_up").items() if not up)),
        memory_available=after.total("host_memory_available_bytes"),
        load1=after.total("host_load1"),
    )


def _model(name: str, before: Scrape, after: Scrape, seconds: float, now: float) -> ModelFigures:
    requests, stage = "embedding_request_duration_seconds", "embedding_stage_duration_seconds"

    def more(sample: str, **labels: str) -> float:
        return grown(before, after, sample, model=name, **labels)

    codes = {dict(labels)["code"] for labels in after.of(f"{requests}_count", model=name)}
    errors = {code: more(f"{requests}_count", code=code) / seconds for code in sorted(codes) if code[0] in "45o"}
    spent = {each: more(f"{stage}_sum", stage=each) for each in STAGES}
    padded, batches = more("embedding_padded_tokens_total"), more("embedding_batch_texts_count")
    succeeded = after.total("canary_success", model=name)
    last_good = after.total("canary_last_success_timestamp_seconds", model=name)
    return ModelFigures(
        model=name,
        requests_per_s=more(f"{requests}_count") / seconds,
        errors_per_s={code: rate for code, rate in errors.items() if rate},
        p50_s=quantile(0.5, before, after, requests, model=name),
        p99_s=quantile(0.99, before, after, requests, model=name),
        texts_per_s=more("embedding_texts_total") / seconds,
        tokens_per_s=more("embedding_tokens_total") / seconds,
        padding_share=1 - more("embedding_tokens_total") / padded if padded else None,
        stage_share={each: taken / sum(spent.values()) for each, taken in spent.items()} if any(spent.values()) else {},
        stage_p50_s={each: quantile(0.5, before, after, stage, model=name, stage=each) for each in STAGES},
        mean_batch_texts=more("embedding_batch_texts_sum") / batches if batches else None,
        queue=after.total("torchserve_queue_length", model=name),
        queue_capacity=after.total("torchserve_queue_capacity", model=name),
        workers_ready=after.total("torchserve_workers", model=name, state="READY"),
        workers_wanted=after.total("torchserve_workers_wanted", model=name),
        canary="none yet" if succeeded is None else "ok" if succeeded else "failing",
        canary_cosine=after.total("canary_cosine", model=name),
        canary_age_s=now - last_good if last_good else None,
    )


def _programs(scrape: Scrape) -> Iterable[ProgramFigures]:
    for labels, there in sorted(scrape.of("supervisor_process_state").items(), key=lambda each: sorted(each[0])):
        if there:
            program, state = dict(labels)["name"], dict(labels)["state"]
            start = scrape.total("supervisor_process_start_time_seconds", name=program) or 0.0
            status = scrape.total("supervisor_process_exit_status", name=program) or 0.0
            yield ProgramFigures(program, state, start, int(status))


def _gpus(scrape: Scrape) -> Iterable[GpuFigures]:
    for labels in sorted(scrape.of("gpu_info"), key=sorted):
        uuid, name = dict(labels)["uuid"], dict(labels)["name"]
        throttles = scrape.of("gpu_throttle", uuid=uuid)
        yield GpuFigures(
            uuid=uuid,
            name=name,
            utilization=scrape.total("gpu_utilization_ratio", uuid=uuid),
            memory_used=scrape.total("gpu_memory_used_bytes", uuid=uuid),
            memory_total=scrape.total("gpu_memory_total_bytes", uuid=uuid),
            power_watts=scrape.total("gpu_power_watts", uuid=uuid),
            temperature=scrape.total("gpu_temperature_celsius", uuid=uuid),
            throttled=tuple(sorted(dict(each)["reason"] for each, held in throttles.items() if held)),
        )
