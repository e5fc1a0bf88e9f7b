"""Every metric that the exporter can give, in one table: docs/metrics.md is made from it, and nothing else is given.

The workers' own metrics are made in handlers/telemetry.py; they stand here with what they mean.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

Kind = Literal["gauge", "counter", "histogram"]

SOURCES = (
    "workers",
    "access_log",
    "torchserve_metrics",
    "management",
    "supervisor",
    "watchdog",
    "canary",
    "desired",
    "gateway",
    "gateway_canary",
    "door",
    "nvml",
    "host",
)


@dataclass(frozen=True)
class Family:
    """One metric: its labels, and `text` for HELP and the page. `source` is one of SOURCES, or "exporter"."""

    name: str
    kind: Kind
    source: str
    text: str
    labels: tuple[str, ...] = ()


def _family(kind: Kind, source: str, name: str, labels: str, text: str) -> Family:
    return Family(name, kind, source, text, tuple(labels.split()))


_TABLE: tuple[Family, ...] = (
    # What the workers measure.
    _family(
        "histogram", "workers", "embedding_stage_duration_seconds", "model device stage",
        "Time a worker spends on one stage (decode, tokenize, forward, encode) of one batch.",
    ),
    _family("histogram", "workers", "embedding_batch_texts", "model", "Texts computed together in one batch."),
    _family(
        "histogram", "workers", "embedding_batch_tokens", "model", "Real tokens computed together in one batch."
    ),
    _family("counter", "workers", "embedding_texts_total", "model", "Texts embedded."),
    _family("counter", "workers", "embedding_tokens_total", "model", "Tokens of the texts embedded, without padding."),
    _family(
        "counter", "workers", "embedding_padded_tokens_total", "model",
        "Tokens computed, padding and dummy rows included: 1 - tokens / padded tokens is the share that was wasted.",
    ),
    _family(
        "counter", "workers", "embedding_truncated_texts_total", "model", "Texts cut to the model's limit."
    ),
    _family(
        "gauge", "workers", "embedding_last_answer_timestamp_seconds", "model",
        "When the last vector was answered, in Unix time.",
    ),
    _family(
        "gauge", "workers", "embedding_last_answer_latency_seconds", "model",
        "Time that the last answered batch took in its worker.",
    ),
    _family(
        "gauge", "workers", "embedding_model_info", "model version device backend dtype fingerprint",
        "1 for each distinct way in which a living worker has loaded a model.",
    ),
    # Whole requests.
    _family(
        "histogram", "access_log", "embedding_request_duration_seconds", "model code",
        "Requests by model and HTTP status, refused ones included: as the gateway answered them, or the server those "
        "that came past it; canaries are not in it. Its _count is the number of requests.",
    ),
    _family(
        "counter", "access_log", "embedding_request_unmeasured_total", "model code",
        "Requests whose duration the server's clock could not tell, as it was set meanwhile; the histogram counts them "
        "at the duration of the last sound one.",
    ),
    _family(
        "counter", "access_log", "embedkit_clock_steps_total", "", "Times that the wall clock was set while we watched."
    ),
    # TorchServe's own counters, see torchserve_table.py.
    _family(
        "counter", "torchserve_metrics", "torchserve_requests_total", "code_class",
        "Every answer of the server on any of its ports by class of status: pings, management and scrapes included.",
    ),
    _family(
        "counter", "torchserve_metrics", "torchserve_inference_requests_total", "model version",
        "Requests that reached a model's queue, canaries included; version is `default` where the client named none.",
    ),
    _family(
        "counter", "torchserve_metrics", "torchserve_inference_latency_seconds_total", "model version",
        "Time in the server of all requests that a model answered, canaries included.",
    ),
    _family(
        "counter", "torchserve_metrics", "torchserve_queue_latency_seconds_total", "model version",
        "Time in the model's queue of all requests that it answered, canaries included.",
    ),
    _family(
        "gauge", "torchserve_metrics", "torchserve_worker_load_seconds", "worker",
        "Time that the worker's last start took, until its model was loaded.",
    ),
    # The management API.
    _family("gauge", "management", "torchserve_up", "", "1 if TorchServe's management API answers."),
    _family(
        "gauge", "management", "torchserve_workers", "model version state",
        "Workers by state: READY; UNLOADING, which is TorchServe's word for all that is not ready, loading included; "
        "OTHER.",
    ),
    _family(
        "gauge", "management", "torchserve_workers_wanted", "model version", "Workers that the model should have."
    ),
    _family(
        "gauge", "management", "torchserve_queue_length", "model",
        "Requests that wait in the model's queue; those of a batch that is being computed do not.",
    ),
    _family(
        "gauge", "management", "torchserve_queue_capacity", "model", "Requests that the queue holds before it refuses."
    ),
    _family(
        "gauge", "management", "torchserve_worker_memory_bytes", "model pid", "Resident memory of a worker's process."
    ),
    _family(
        "gauge", "management", "torchserve_worker_start_time_seconds", "model pid",
        "When a worker's process started, in Unix time.",
    ),
    # supervisord.
    _family("gauge", "supervisor", "supervisor_up", "", "1 if supervisord answers."),
    _family(
        "gauge", "supervisor", "supervisor_process_state", "name state",
        "1 for the state that a program is in, 0 for the others.",
    ),
    _family(
        "gauge", "supervisor", "supervisor_process_start_time_seconds", "name",
        "When the program was last started, in Unix time; 0 if never.",
    ),
    _family(
        "gauge", "supervisor", "supervisor_process_exit_status", "name",
        "How the program's last run ended; 0 if none has, -1 if a signal ended it.",
    ),
    # The watchdog.
    _family(
        "gauge", "watchdog", "watchdog_last_look_timestamp_seconds", "",
        "When the watchdog last looked, in Unix time; 0 if never.",
    ),
    _family("gauge", "watchdog", "watchdog_paused", "", "1 while `embedkit pause` keeps the watchdog from acting."),
    _family(
        "gauge", "watchdog", "watchdog_locked_out_seconds", "",
        "How long the watchdog has not acted because a command holds the deployment's lock; 0 while none does.",
    ),
    _family(
        "gauge", "watchdog", "watchdog_lock_holder_stopped", "",
        "1 while the command that holds the deployment's lock is stopped (Ctrl-Z, SIGSTOP).",
    ),
    _family(
        "counter", "watchdog", "watchdog_actions_total", "action target",
        "What the watchdog did: end_worker or revive_model on a model, restart_torchserve, start_program on a program.",
    ),
    _family(
        "gauge", "watchdog", "watchdog_budget_remaining", "action target",
        "Actions that are left of the hour's budget, of those that were taken; at 0 it goes on at its slowest pace.",
    ),
    # The canary.
    _family("gauge", "canary", "canary_success", "model",
        "1 if the last canary came back with the right vector; 0 also for a model that cannot be tried, because its "
        "archive was not verified here: `embedkit up MODEL` does that."),
    _family(
        "histogram", "canary", "canary_duration_seconds", "model",
        "Time of a canary that came back with the right vector, as a client measures it.",
    ),
    _family(
        "gauge", "canary", "canary_cosine", "model",
        "Cosine of the last canary's vector to the one kept when the archive was verified; absent if none came back.",
    ),
    _family(
        "gauge", "canary", "canary_reference_cosine", "model",
        "Smallest cosine of the archive's vectors to plain sentence-transformers in float32 when it was verified: what "
        "canary_cosine is to be judged by.",
    ),
    _family(
        "counter", "canary", "canary_probes_total", "model outcome",
        "Canaries by outcome: ok, wrong_vector, refused, timeout, unreachable.",
    ),
    _family(
        "gauge", "canary", "canary_last_success_timestamp_seconds", "model",
        "When the last good canary came back, in Unix time.",
    ),
    # What should be.
    _family(
        "gauge", "desired", "embedding_device_expected", "model device",
        "1 for the device (cuda, cpu, auto) that archives/models.toml asks for a served model.",
    ),
    _family(
        "counter", "desired", "embedkit_removed_workers_total", "model",
        "Workers ended with a version that a deploy has removed; to be told from those that crash.",
    ),
    # Who comes through the gateway.
    _family("gauge", "gateway", "gateway_up", "", "1 if HAProxy answers."),
    _family(
        "counter", "gateway", "gateway_key_requests_total", "key",
        "Requests with a key, by its name; `anonymous` where none is needed. Begins anew when HAProxy is given another "
        "configuration.",
    ),
    _family(
        "counter", "gateway", "gateway_key_errors_total", "key kind",
        "Those of them that were answered with an error: `client` 4xx, 429 among them, `server` 5xx.",
    ),
    _family(
        "gauge", "gateway", "gateway_admitted_requests", "model bodies",
        "Requests that it has let in to TorchServe, whose body is `whole` in memory, or `large`.",
    ),
    _family(
        "gauge", "gateway", "gateway_admission_limit", "model bodies",
        "How many there may be before it refuses with a 503.",
    ),
    _family(
        "gauge", "gateway_canary", "gateway_canary_success", "model",
        "1 if the last canary that came through the gateway brought the right vector.",
    ),
    _family(
        "histogram", "gateway_canary", "gateway_canary_duration_seconds", "model",
        "Time of such a canary, as a user of the gateway measures it.",
    ),
    _family(
        "counter", "gateway_canary", "gateway_canary_probes_total", "model outcome",
        "Such canaries by outcome, as canary_probes_total.",
    ),
    _family(
        "gauge", "gateway_canary", "gateway_canary_last_success_timestamp_seconds", "model",
        "When the last good one came back, in Unix time.",
    ),
    _family("gauge", "door", "gateway_open", "", "1 if it lets in who has no key, 0 if not."),
    _family(
        "gauge", "door", "gateway_wrongly_open", "",
        "1 if it does so although a key was made, or the address is public without `gateway_open`.",
    ),
    # GPUs.
    _family("gauge", "nvml", "gpu_info", "uuid index name driver", "1 for each GPU."),
    _family(
        "gauge", "nvml", "gpu_utilization_ratio", "uuid",
        "Part of the last sample period in which any kernel ran; it says nothing of how full the GPU was.",
    ),
    _family("gauge", "nvml", "gpu_memory_used_bytes", "uuid", "Memory taken, the driver's share included."),
    _family("gauge", "nvml", "gpu_memory_total_bytes", "uuid", "Memory that the GPU has."),
    _family("gauge", "nvml", "gpu_power_watts", "uuid", "Power drawn."),
    _family("gauge", "nvml", "gpu_temperature_celsius", "uuid", "Temperature of the chip."),
    _family("gauge", "nvml", "gpu_sm_clock_hertz", "uuid", "Clock of the multiprocessors."),
    _family("gauge", "nvml", "gpu_memory_clock_hertz", "uuid", "Clock of the memory."),
    _family(
        "gauge", "nvml", "gpu_throttle", "uuid reason",
        "1 where this holds the clocks down: power_cap, hw_slowdown, sw_thermal, hw_thermal, power_brake.",
    ),
    _family(
        "gauge", "nvml", "gpu_process_memory_bytes", "uuid pid model",
        "GPU memory of a worker; pid and model are empty for that of all other processes together.",
    ),
    _family(
        "counter", "nvml", "gpu_ecc_errors_total", "uuid kind",
        "ECC errors (corrected, uncorrected) since the driver was loaded.",
    ),
    # The host.
    _family(
        "gauge", "host", "host_memory_available_bytes", "",
        "Memory that can still be taken without swapping: of the machine, or of the container (control group) whose "
        "limit leaves less; its page cache gives way and counts as available.",
    ),
    _family(
        "gauge", "host", "host_memory_total_bytes", "",
        "Memory in all of the one that host_memory_available_bytes is of: the machine's, or the limit.",
    ),
    _family(
        "gauge", "host", "host_load1", "",
        "Load average over one minute. It is the machine's: absent where the kit may use a part of its cores only.",
    ),
    _family(
        "gauge", "host", "host_cpus", "",
        "Cores that the exporter may keep busy, as all programs of the kit; a container's quota may be a part of one.",
    ),
    _family(
        "gauge", "host", "host_filesystem_free_bytes", "volume",
        "Room for this user where the logs, TorchServe's temp folder and the archives (store) lie.",
    ),
    _family("gauge", "host", "host_filesystem_size_bytes", "volume", "Size of these file systems."),
    # The exporter itself.
    _family(
        "gauge", "exporter", "embedkit_source_up", "source",
        "1 if the source answered this scrape; if not, its families are missing from it.",
    ),
    _family(
        "gauge", "exporter", "embedkit_source_scrape_duration_seconds", "source", "Time that asking the source took."
    ),
    _family(
        "counter", "exporter", "embedkit_source_errors_total", "source kind",
        "What went wrong with a source: timeout, unreachable, refused, unreadable, damaged_file, lost_lines, failed.",
    ),
    _family("gauge", "exporter", "embedkit_build_info", "version python flavour", "1; what this environment is."),
)  # fmt: skip

FAMILIES: Mapping[str, Family] = {one.name: one for one in _TABLE}


class Families:
    """The families of one scrape of one source, built afresh; only what the table has, with the labels it has there."""

    def __init__(self) -> None:
        self._made: dict[str, Metric] = {}

    def _metric(self, name: str, labels: Mapping[str, str]) -> Metric:
        family = FAMILIES[name]
        if set(labels) != set(family.labels):
            raise ValueError(f"{name} has the labels {family.labels}, not {tuple(labels)}")
        if name not in self._made:
            self._made[name] = empty(family)
        return self._made[name]

    def add(self, name: str, value: float, /, **labels: str) -> None:
        """One sample of a gauge or a counter."""
        self._metric(name, labels).add_sample(name, labels, value)

    def add_histogram(
        self, name: str, bounds: Sequence[float], counts: Sequence[float], total: float, /, **labels: str
    ) -> None:
        """One histogram from the counts of each bucket alone; `counts` has one more than `bounds`, for +Inf."""
        metric = self._metric(name, labels)
        below = 0.0
        for bound, count in zip((*bounds, float("inf")), counts, strict=True):
            below += count
            upper: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
            metric.add_sample(f"{name}_bucket", {**labels, "le": upper}, below)
        metric.add_sample(f"{name}_sum", labels, total)
        metric.add_sample(f"{name}_count", labels, below)

    def add_samples(self, name: str, samples: Iterable[tuple[str, Mapping[str, str], float]]) -> None:
        """Ready samples of one family: (sample name, labels, value)."""
        self._made.setdefault(name, empty(FAMILIES[name]))
        for sample, labels, value in samples:
            self._made[name].add_sample(sample, dict(labels), value)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._made.values())


def empty(family: Family) -> Metric:
    """The family without a sample: HELP begins with where it comes from."""
    source = "" if family.source == "exporter" else f"[{family.source}] "
    name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
    return Metric(name, f"{source}{family.text}", family.kind)
