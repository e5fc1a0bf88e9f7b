"""The alerts. Each has a page of the same name in ops/runbooks/."""

from collections.abc import Iterator
from dataclasses import dataclass

from ops.prometheus import thresholds as limits
from ops.prometheus.thresholds import BURNS

# Prometheus itself hands the pages out (--web.user-assets), so the link works where the alert comes from.
RUNBOOK_URL = "{{ $externalURL }}/user/%s.md"


@dataclass(frozen=True)
class Alert:
    """One alerting rule. `summary` names what is wrong where, and the value; `extra` are further labels."""

    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        return {"severity": self.severity, **dict(self.extra)}

    @property
    def annotations(self) -> dict[str, str]:
        return {"summary": self.summary, "runbook_url": RUNBOOK_URL % self.name}


MODEL = "{{ $labels.model }} on {{ $labels.instance }}"
PERCENT = "{{ $value | humanizePercentage }}"
REMOVED = "embedkit_removed_workers_total"


def _burns(name: str, share: str, budget: float, what: str) -> Iterator[Alert]:
    for burn in BURNS:
        limit = f"{burn.factor} * {budget:.10g}"
        yield Alert(
            name,
            f"instance_model:{share}:ratio_rate{burn.long} > {limit}\n"
            f"and instance_model:{share}:ratio_rate{burn.short} > {limit}\n"
            f"and instance_model:embedding_requests:rate{burn.long} * {limits.WINDOWS[burn.long]}"
            f" >= {limits.MIN_REQUESTS}",
            burn.hold,
            burn.severity,
            f"{MODEL}: {PERCENT} of the requests of the last {burn.long} {what}, "
            f"more than {burn.factor:g} times what the objective allows",
            (("window", burn.long),),
        )


def _gpu_absent() -> str:
    seen = "embedding_model_info"
    on_gpu = 'embedding_model_info{device=~"cuda.*"}'
    key = "on (instance, model)"
    asked = 'embedding_device_expected{device="cuda"} == 1'
    offered = 'embedding_device_expected{device="auto"} == 1 and on (instance) gpu_info'
    return (
        f"({asked} unless on (instance) gpu_info)\nor\n(({asked} or {offered}) and {key} {seen} unless {key} {on_gpu})"
    )


ALERTS: tuple[Alert, ...] = (
    *_burns("EmbeddingErrorBudgetBurn", "embedding_requests_failed", 1 - limits.ANSWERED, "failed"),
    *_burns(
        "EmbeddingLatencyBudgetBurn",
        "embedding_requests_slow",
        1 - limits.FAST,
        f"took longer than {limits.FAST_WITHIN_S} s",
    ),
    Alert(
        "CanaryFailing",
        "max_over_time(canary_success[2m]) == 0",
        "1m",
        "critical",
        f"{MODEL}: no known text has come back as the right vector for 2 minutes (canary_success {{{{ $value }}}})",
    ),
    Alert(
        "CanaryDrifting",
        f"max_over_time(canary_cosine[5m]) < {limits.CANARY_COSINE}\n"
        f"or max_over_time(canary_cosine[5m]) < canary_reference_cosine - {limits.CANARY_DROP}",
        "5m",
        "critical",
        f'{MODEL}: the known text\'s vector has left its reference, cosine {{{{ $value | printf "%.4f" }}}}',
    ),
    Alert(
        "CanaryStopped",
        # a canary that fails is another alert's business: this one has nothing new to say
        f"time() - canary_last_success_timestamp_seconds > {limits.CANARY_SILENT_S} and canary_success == 1",
        "1m",
        "warning",
        f"{MODEL}: no canary has been sent since the last good one {{{{ $value | humanizeDuration }}}} ago",
    ),
    Alert(
        "GatewayCanaryFailing",
        "max_over_time(gateway_canary_success[2m]) == 0",
        "1m",
        "critical",
        f"{MODEL}: no known text has come back through the gateway for 2 minutes "
        "(gateway_canary_success {{ $value }})",
    ),
    Alert(
        "TorchServeDown",
        "torchserve_up == 0",
        "1m",
        "critical",
        "TorchServe on {{ $labels.instance }} does not answer on its management port (torchserve_up {{ $value }})",
    ),
    Alert(
        "NoReadyWorker",
        "instance_model:torchserve_workers_ready:sum == 0 and instance_model:torchserve_workers_wanted:sum > 0",
        # TorchServe does not tell loading from dead: every start of a large model looks like this for minutes.
        "5m",
        "critical",
        f"{MODEL}: {{{{ $value }}}} workers are ready, every request is refused",
    ),
    Alert(
        "WorkersMissing",
        "instance_model:torchserve_workers_ready:sum < instance_model:torchserve_workers_wanted:sum",
        "10m",
        "warning",
        f"{MODEL}: fewer workers are ready than wanted, {{{{ $value }}}}",
    ),
    Alert(
        "ModelNotRegistered",
        "embedding_device_expected unless on (instance, model) torchserve_workers\n"
        "and on (instance) torchserve_up == 1",
        "5m",
        "critical",
        f"{MODEL}: it should be served and TorchServe does not have it (expected {{{{ $value }}}}, registered 0)",
    ),
    Alert(
        "WorkerCrashLoop",
        # all workers end with their server, which is another alert's business, and those of a version with its removal
        "instance_model:torchserve_worker_early_ends:count15m\n"
        f"- (max_over_time({REMOVED}[15m]) - min_over_time({REMOVED}[15m])"
        " or 0 * instance_model:torchserve_worker_early_ends:count15m)\n"
        "- instance_model:torchserve_workers_wanted:sum * on (instance, job) group_left ()\n"
        f'  changes(supervisor_process_start_time_seconds{{name="torchserve"}}[15m]) >= {limits.CRASH_LOOP_ENDS}',
        "1m",
        "critical",
        f"{MODEL}: {{{{ $value }}}} workers started and ended within 15 minutes",
    ),
    Alert(
        "QueueSaturated",
        f"instance_model:torchserve_queue_length:max1m_ratio > {limits.QUEUE_FULL_RATIO}\n"
        f"or instance_model:gateway_admitted_requests:max1m_ratio > {limits.QUEUE_FULL_RATIO}",
        "2m",
        "warning",
        f"{MODEL}: the queue, or the gateway's share of it, is {PERCENT} full; a full one refuses with 503",
    ),
    Alert(
        "RequestsRefused",
        f"instance_model:embedding_requests_refused:ratio_rate5m > {limits.REFUSED_RATIO}\n"
        f"and instance_model:embedding_requests:rate5m * {limits.WINDOWS['5m']} >= {limits.MIN_REQUESTS}",
        "2m",
        "warning",
        f"{MODEL}: {PERCENT} of the requests of the last 5 minutes were refused with 503",
    ),
    Alert(
        "ProgramRestarting",
        f"changes(supervisor_process_start_time_seconds[1h]) > {limits.RESTARTS_PER_HOUR}",
        "0m",
        "warning",
        "{{ $labels.name }} on {{ $labels.instance }} was restarted {{ $value }} times in an hour",
    ),
    Alert(
        "ProgramFatal",
        'supervisor_process_state{state="FATAL"} == 1',
        "1m",
        "critical",
        "supervisord has given up {{ $labels.name }} on {{ $labels.instance }} (FATAL {{ $value }})",
    ),
    Alert(
        "WatchdogActing",
        f"increase(watchdog_actions_total[1h]) > {limits.WATCHDOG_ACTIONS_PER_HOUR}",
        "0m",
        "warning",
        "the watchdog on {{ $labels.instance }} had to act again and again: {{ $labels.action }} on "
        '{{ $labels.target }}, {{ $value | printf "%.0f" }} times in an hour',
    ),
    Alert(
        "WatchdogOutOfBudget",
        "watchdog_budget_remaining == 0",
        "0m",
        "critical",
        "the watchdog on {{ $labels.instance }} does not get {{ $labels.target }} well: "
        "{{ $labels.action }} has {{ $value }} left of its hour's budget",
    ),
    Alert(
        "WatchdogStopped",
        f"time() - watchdog_last_look_timestamp_seconds > {limits.WATCHDOG_SILENT_S}",
        "2m",
        "warning",
        "the watchdog on {{ $labels.instance }} has not looked for {{ $value | humanizeDuration }}",
    ),
    Alert(
        "WatchdogPaused",
        "watchdog_paused == 1",
        "4h",
        "warning",
        "the watchdog on {{ $labels.instance }} has been paused for 4 hours (paused {{ $value }})",
    ),
    Alert(
        "WatchdogLockedOut",
        f"watchdog_locked_out_seconds > {limits.WATCHDOG_LOCKED_OUT_S} or "
        f"(watchdog_locked_out_seconds > {limits.WATCHDOG_LOCKED_OUT_STOPPED_S} and watchdog_lock_holder_stopped == 1)",
        "0m",
        "warning",
        "the watchdog on {{ $labels.instance }} has not acted for {{ $value | humanizeDuration }}: a command holds the "
        "deployment's lock",
    ),
    Alert(
        "GatewayDown",
        "gateway_up == 0",
        "1m",
        "critical",
        "the gateway on {{ $labels.instance }} does not answer (gateway_up {{ $value }})",
    ),
    Alert(
        "GatewayOpen",
        "gateway_wrongly_open == 1",
        "1m",
        "critical",
        "the gateway on {{ $labels.instance }} lets in who has no key, and must not (wrongly_open {{ $value }})",
    ),
    Alert(
        "ExporterDown",
        'up{job="embedkit"} == 0 or absent(up{job="embedkit"}) - 1',
        "2m",
        "critical",
        'Prometheus has no metrics from {{ or $labels.instance "any embedkit" }} (up {{ $value }})',
    ),
    Alert(
        "SourceDown",
        "embedkit_source_up == 0",
        "5m",
        "warning",
        "the exporter on {{ $labels.instance }} gets nothing from {{ $labels.source }} (source_up {{ $value }})",
    ),
    Alert(
        "GpuAbsent",
        _gpu_absent(),
        "5m",
        "critical",
        f"{MODEL}: a GPU was asked for or is there and is not used (device {{{{ $labels.device }}}}: {{{{ $value }}}})",
    ),
    Alert(
        "GpuIdle",
        f"max without (uuid) (max_over_time(gpu_utilization_ratio[10m])) < {limits.GPU_IDLE_RATIO}\n"
        "and on (instance) sum without (model) (\n"
        '  instance_model:embedding_requests:rate5m and on (instance, model) embedding_model_info{device=~"cuda.*"}\n'
        f") > {limits.GPU_IDLE_REQUESTS_PER_S}",
        "5m",
        "warning",
        f"no GPU of {{{{ $labels.instance }}}} was busier than {PERCENT} in 10 minutes, and models on it get requests",
    ),
    Alert(
        "GpuMemoryHigh",
        f"max_over_time(gpu_memory_used_bytes[5m]) / gpu_memory_total_bytes > {limits.GPU_MEMORY_RATIO}",
        "5m",
        "warning",
        f"{PERCENT} of the memory of GPU {{{{ $labels.uuid }}}} on {{{{ $labels.instance }}}} is used",
    ),
    Alert(
        "GpuHot",
        f"max_over_time(gpu_temperature_celsius[5m]) > {limits.GPU_HOT_CELSIUS}",
        "5m",
        "warning",
        "GPU {{ $labels.uuid }} on {{ $labels.instance }} is at {{ $value }} °C",
    ),
    Alert(
        "DiskFilling",
        f"host_filesystem_free_bytes / host_filesystem_size_bytes < {limits.DISK_FREE_RATIO}",
        "5m",
        "warning",
        f"{PERCENT} of the disk of {{{{ $labels.volume }}}} on {{{{ $labels.instance }}}} is free",
    ),
    Alert(
        "HostMemoryLow",
        f"host_memory_available_bytes / host_memory_total_bytes < {limits.MEMORY_AVAILABLE_RATIO}",
        "5m",
        "warning",
        f"{PERCENT} of the memory that {{{{ $labels.instance }}}} may use is available",
    ),
)
