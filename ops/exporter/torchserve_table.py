"""What TorchServe's :8082 says, and what becomes of it: one table, from which docs/metrics.md is generated too."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from ops.exporter.families import Families


@dataclass(frozen=True)
class Given:
    """A family that is given on. `labels`: theirs → ours, `fixed` ours with their value; values are times `factor`."""

    theirs: str
    ours: str
    labels: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    factor: float = 1.0


@dataclass(frozen=True)
class LeftOut:
    """A family that would mislead, and why."""

    theirs: str
    why: str


_OF_A_MODEL = {"model_name": "model", "model_version": "version"}
_LAST = "the last request's alone, whichever that was; the histograms have all of them"
_SYSTEM = "switched off (disable_system_metrics): it fails for ever once a worker's pid is gone; "

TABLE: tuple[Given | LeftOut, ...] = (
    Given("Requests2XX", "torchserve_requests_total", fixed={"code_class": "2xx"}),
    Given("Requests4XX", "torchserve_requests_total", fixed={"code_class": "4xx"}),
    Given("Requests5XX", "torchserve_requests_total", fixed={"code_class": "5xx"}),
    Given("ts_inference_requests_total", "torchserve_inference_requests_total", _OF_A_MODEL),
    Given("ts_inference_latency_microseconds", "torchserve_inference_latency_seconds_total", _OF_A_MODEL, factor=1e-6),
    Given("ts_queue_latency_microseconds", "torchserve_queue_latency_seconds_total", _OF_A_MODEL, factor=1e-6),
    Given("WorkerLoadTime", "torchserve_worker_load_seconds", {"WorkerName": "worker"}, factor=1e-3),
    LeftOut("QueueTime", _LAST),
    LeftOut("HandlerTime", _LAST),
    LeftOut("PredictionTime", _LAST),
    LeftOut("WorkerThreadTime", _LAST),
    LeftOut("CPUUtilization", _SYSTEM + "of the process that asks; see host_load1"),
    LeftOut("MemoryUsed", _SYSTEM + "see host_memory_available_bytes"),
    LeftOut("MemoryAvailable", _SYSTEM + "see host_memory_available_bytes"),
    LeftOut("MemoryUtilization", _SYSTEM + "see host_memory_available_bytes"),
    LeftOut("DiskUsage", _SYSTEM + "of the root file system; see host_filesystem_free_bytes"),
    LeftOut("DiskUtilization", _SYSTEM + "of the root file system; see host_filesystem_free_bytes"),
    LeftOut("DiskAvailable", _SYSTEM + "of the root file system; see host_filesystem_free_bytes"),
    LeftOut("GPUUtilization", _SYSTEM + "see gpu_utilization_ratio"),
    LeftOut("GPUMemoryUtilization", _SYSTEM + "memory traffic, not how full it is; see gpu_memory_used_bytes"),
    LeftOut("GPUMemoryUsed", _SYSTEM + "see gpu_memory_used_bytes"),
)
GIVEN: Mapping[str, Given] = {row.theirs: row for row in TABLE if isinstance(row, Given)}


def map_metrics(text: str, families: Families) -> None:
    """The text of :8082/metrics into our families; what the table does not give on is not.

    Raises:
        ValueError: it is not a text of metrics.
    """
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # The parser gives every counter a _total, as OpenMetrics wants it.
            row = GIVEN.get(sample.name) or GIVEN.get(sample.name.removesuffix("_total"))
            if row is None:
                continue
            labels = {ours: sample.labels[theirs] for theirs, ours in row.labels.items()}
            families.add(row.ours, sample.value * row.factor, **labels, **row.fixed)


def unknown(text: str) -> Iterable[str]:
    """Families in the text that the table does not name."""
    named = {row.theirs for row in TABLE}
    for family in text_string_to_metric_families(text):
        if not {family.name, f"{family.name}_total"} & named:
            yield family.name
