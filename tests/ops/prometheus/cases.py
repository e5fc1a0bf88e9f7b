"""For each alert the series under which it fires, with what it then says, and those under which it keeps silent."""

from dataclasses import dataclass, field

JOB = 'instance="host:9108", job="embedkit"'
MINILM = f'{JOB}, model="minilm"'
STARTS = "torchserve_worker_start_time_seconds"
TORCHSERVE_START = f'supervisor_process_start_time_seconds{{{JOB}, name="torchserve"}}'
REQUESTS = "embedding_request_duration_seconds_count"
GPU = f'{JOB}, uuid="GPU-1"'


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, a sample a minute; at `at` the alert fires with these labels and this summary."""

    alert: str
    severity: str
    fires: dict[str, str]
    silent: dict[str, str]
    summary: str
    labels: dict[str, str] = field(default_factory=lambda: {"model": "minilm"})
    at: str = "20m"


CASES = (
    Case(
        "GatewayCanaryFailing",
        "critical",
        {f"gateway_canary_success{{{MINILM}}}": "1x9 0x20", f"canary_success{{{MINILM}}}": "1x30"},
        {f"gateway_canary_success{{{MINILM}}}": "1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0"},
        "minilm on host:9108: no known text has come back through the gateway for 2 minutes (gateway_canary_success 0)",
    ),
    Case(
        "CanaryFailing",
        "critical",
        {f"canary_success{{{MINILM}}}": "1x9 0x20"},
        {f"canary_success{{{MINILM}}}": "1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0"},
        "minilm on host:9108: no known text has come back as the right vector for 2 minutes (canary_success 0)",
    ),
    Case(
        "CanaryDrifting",
        "critical",
        {  # above the gate, and not what verification saw
            f"canary_cosine{{{MINILM}}}": "0.99999x4 0.9991x30",
            f"canary_reference_cosine{{{MINILM}}}": "0.99999x40",
        },
        {f"canary_cosine{{{MINILM}}}": "0.99999x30", f"canary_reference_cosine{{{MINILM}}}": "0.99999x40"},
        "minilm on host:9108: the known text's vector has left its reference, cosine 0.9991",
    ),
    Case(  # an archive in half precision, verified at little more than the gate
        "CanaryDrifting",
        "critical",
        {
            f"canary_cosine{{{MINILM}}}": "0.9993x4 0.9985x30",
            f"canary_reference_cosine{{{MINILM}}}": "0.9993x40",
        },
        {f"canary_cosine{{{MINILM}}}": "0.9993x30", f"canary_reference_cosine{{{MINILM}}}": "0.9993x40"},
        "minilm on host:9108: the known text's vector has left its reference, cosine 0.9985",
    ),
    Case(
        "CanaryStopped",
        "warning",
        {
            f"canary_last_success_timestamp_seconds{{{MINILM}}}": "0+60x4 240x30",
            f"canary_success{{{MINILM}}}": "1x40",
        },
        {
            f"canary_last_success_timestamp_seconds{{{MINILM}}}": "0+60x30",
            f"canary_success{{{MINILM}}}": "1x40",
        },
        "minilm on host:9108: no canary has been sent since the last good one 16m 0s ago",
    ),
    Case(  # it fails: CanaryFailing says so
        "CanaryStopped",
        "warning",
        {f"canary_last_success_timestamp_seconds{{{MINILM}}}": "60x40", f"canary_success{{{MINILM}}}": "1x40"},
        {f"canary_last_success_timestamp_seconds{{{MINILM}}}": "60x40", f"canary_success{{{MINILM}}}": "0x40"},
        "minilm on host:9108: no canary has been sent since the last good one 19m 0s ago",
    ),
    Case(
        "TorchServeDown",
        "critical",
        {f"torchserve_up{{{JOB}}}": "1x9 0x20"},
        {f"torchserve_up{{{JOB}}}": "1x18 0 1x9"},
        "TorchServe on host:9108 does not answer on its management port (torchserve_up 0)",
        labels={},
    ),
    Case(
        "NoReadyWorker",
        "critical",
        {
            f'torchserve_workers{{{MINILM}, version="1.0", state="READY"}}': "2x9 0x20",
            f'torchserve_workers{{{MINILM}, version="1.0", state="LOADING"}}': "0x9 2x20",
            f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "2x30",
        },
        {
            # an ordinary load of four minutes
            f'torchserve_workers{{{MINILM}, version="1.0", state="READY"}}': "1x16 0x3 1x20",
            f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "2x30",
        },
        "minilm on host:9108: 0 workers are ready, every request is refused",
    ),
    Case(
        "WorkersMissing",
        "warning",
        {
            f'torchserve_workers{{{MINILM}, version="1.0", state="READY"}}': "2x4 1x30",
            f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "2x30",
        },
        {  # a killed worker that comes back
            f'torchserve_workers{{{MINILM}, version="1.0", state="READY"}}': "2x12 1x5 2x20",
            f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "2x30",
        },
        "minilm on host:9108: fewer workers are ready than wanted, 1",
    ),
    Case(
        "ModelNotRegistered",
        "critical",
        {
            f'embedding_device_expected{{{MINILM}, device="cpu"}}': "1x30",
            f'torchserve_workers{{{JOB}, model="other", version="1.0", state="READY"}}': "1x30",
            f"torchserve_up{{{JOB}}}": "1x30",
        },
        {
            f'embedding_device_expected{{{MINILM}, device="cpu"}}': "1x30",
            f'torchserve_workers{{{MINILM}, version="1.0", state="READY"}}': "0x30",
            f"torchserve_up{{{JOB}}}": "1x30",
        },
        "minilm on host:9108: it should be served and TorchServe does not have it (expected 1, registered 0)",
        labels={"model": "minilm", "device": "cpu"},
    ),
    Case(  # without TorchServe nothing is registered: that is TorchServeDown's business
        "ModelNotRegistered",
        "critical",
        {f'embedding_device_expected{{{MINILM}, device="auto"}}': "1x30", f"torchserve_up{{{JOB}}}": "1x30"},
        {f'embedding_device_expected{{{MINILM}, device="auto"}}': "1x30", f"torchserve_up{{{JOB}}}": "0x30"},
        "minilm on host:9108: it should be served and TorchServe does not have it (expected 1, registered 0)",
        labels={"model": "minilm", "device": "auto"},
    ),
    Case(
        "WorkerCrashLoop",
        "critical",
        {
            f'{STARTS}{{{MINILM}, pid="1"}}': "1x30",
            f'{STARTS}{{{MINILM}, pid="2"}}': "_x6 400x1 stale",
            f'{STARTS}{{{MINILM}, pid="3"}}': "_x8 500x1 stale",
            f'{STARTS}{{{MINILM}, pid="4"}}': "_x10 600x1 stale",
            f'{STARTS}{{{MINILM}, pid="5"}}': "_x12 700x20",
            f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "2x30",
            TORCHSERVE_START: "1x30",
        },
        {  # all workers replaced, as by `embedkit up` with a new archive
            f'{STARTS}{{{MINILM}, pid="1"}}': "1x10",
            f'{STARTS}{{{MINILM}, pid="2"}}': "1x10",
            f'{STARTS}{{{MINILM}, pid="3"}}': "1x10",
            f'{STARTS}{{{MINILM}, pid="4"}}': "_x12 700x20",
            f'{STARTS}{{{MINILM}, pid="5"}}': "_x12 700x20",
            f'{STARTS}{{{MINILM}, pid="6"}}': "_x12 700x20",
            f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "3x30",
            TORCHSERVE_START: "1x30",
        },
        "minilm on host:9108: 3 workers started and ended within 15 minutes",
    ),
    Case(  # the server dies twice, and all workers with it: that is ProgramRestarting's business
        "WorkerCrashLoop",
        "critical",
        {f'{STARTS}{{{MINILM}, pid="{pid}"}}': f"_x{4 + 2 * pid} {240 + 120 * pid}x1 stale" for pid in range(1, 6)}
        | {f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "1x30", TORCHSERVE_START: "1x30"},
        {
            **{f'{STARTS}{{{MINILM}, pid="1{number}"}}': "_x6 400x2 stale" for number in range(4)},
            **{f'{STARTS}{{{MINILM}, pid="2{number}"}}': "_x10 600x2 stale" for number in range(4)},
            **{f'{STARTS}{{{MINILM}, pid="3{number}"}}': "_x14 800x20" for number in range(4)},
            f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "4x30",
            TORCHSERVE_START: "1x4 400x3 600x3 800x20",
        },
        "minilm on host:9108: 5 workers started and ended within 15 minutes",
    ),
    Case(  # a deploy: the workers of the bridge and the old ones end with their versions
        "WorkerCrashLoop",
        "critical",
        {
            **{f'{STARTS}{{{MINILM}, pid="{pid}"}}': "_x6 400x2 stale" for pid in range(1, 4)},
            f'{STARTS}{{{MINILM}, pid="4"}}': "_x9 600x20",
            f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "2x30",
            f"embedkit_removed_workers_total{{{MINILM}}}": "4x30",
            TORCHSERVE_START: "1x30",
        },
        {
            **{f'{STARTS}{{{MINILM}, pid="{pid}"}}': "_x6 400x2 stale" for pid in range(1, 5)},
            f'{STARTS}{{{MINILM}, pid="5"}}': "_x9 600x20",
            f'torchserve_workers_wanted{{{MINILM}, version="1.0"}}': "2x30",
            f"embedkit_removed_workers_total{{{MINILM}}}": "4x8 8x22",
            TORCHSERVE_START: "1x30",
        },
        "minilm on host:9108: 3 workers started and ended within 15 minutes",
    ),
    Case(
        "QueueSaturated",
        "warning",
        {f"torchserve_queue_length{{{MINILM}}}": "0x9 90x20", f"torchserve_queue_capacity{{{MINILM}}}": "100x30"},
        {f"torchserve_queue_length{{{MINILM}}}": "0x18 90 0x9", f"torchserve_queue_capacity{{{MINILM}}}": "100x30"},
        "minilm on host:9108: the queue, or the gateway's share of it, is 90% full; a full one refuses with 503",
    ),
    Case(  # the gateway refuses while TorchServe's queue has room: the workers hold the rest
        "QueueSaturated",
        "warning",
        {
            f"torchserve_queue_length{{{MINILM}}}": "0x9 11x20",
            f"torchserve_queue_capacity{{{MINILM}}}": "100x30",
            f'gateway_admitted_requests{{{MINILM}, bodies="whole"}}': "0x9 75x20",
            f'gateway_admission_limit{{{MINILM}, bodies="whole"}}': "75x30",
            f'gateway_admitted_requests{{{MINILM}, bodies="large"}}': "0x30",
            f'gateway_admission_limit{{{MINILM}, bodies="large"}}': "25x30",
        },
        {
            f'gateway_admitted_requests{{{MINILM}, bodies="whole"}}': "0x17 75 0x20",
            f'gateway_admission_limit{{{MINILM}, bodies="whole"}}': "75x30",
        },
        "minilm on host:9108: the queue, or the gateway's share of it, is 100% full; a full one refuses with 503",
    ),
    Case(
        "RequestsRefused",
        "warning",
        {
            f'{REQUESTS}{{{MINILM}, code="200"}}': "0+900x30",
            f'{REQUESTS}{{{MINILM}, code="503"}}': "0+100x30",
            f'{REQUESTS}{{{MINILM}, code="429"}}': "0+5000x30",
        },
        {  # a key's own limit, and a burst that is over
            f'{REQUESTS}{{{MINILM}, code="200"}}': "0+900x30",
            f'{REQUESTS}{{{MINILM}, code="503"}}': "0x10 1000x20",
            f'{REQUESTS}{{{MINILM}, code="429"}}': "0+5000x30",
        },
        "minilm on host:9108: 10% of the requests of the last 5 minutes were refused with 503",
    ),
    Case(
        "ProgramRestarting",
        "warning",
        {f'supervisor_process_start_time_seconds{{{JOB}, name="torchserve"}}': "1x4 300x4 600x4 900x10"},
        {f'supervisor_process_start_time_seconds{{{JOB}, name="torchserve"}}': "1x4 300x20"},
        "torchserve on host:9108 was restarted 3 times in an hour",
        labels={"name": "torchserve"},
    ),
    Case(
        "ProgramFatal",
        "critical",
        {f'supervisor_process_state{{{JOB}, name="torchserve", state="FATAL"}}': "0x9 1x20"},
        {
            f'supervisor_process_state{{{JOB}, name="torchserve", state="FATAL"}}': "0x30",
            f'supervisor_process_state{{{JOB}, name="torchserve", state="STOPPED"}}': "1x30",
        },
        "supervisord has given up torchserve on host:9108 (FATAL 1)",
        labels={"name": "torchserve", "state": "FATAL"},
    ),
    Case(
        "WatchdogActing",
        "warning",
        {f'watchdog_actions_total{{{JOB}, action="end_worker", target="minilm"}}': "0x9 1x9 2x9 3x9 4x9 6x60"},
        {f'watchdog_actions_total{{{JOB}, action="end_worker", target="minilm"}}': "0x30 1x10 2x10 3x60"},
        "the watchdog on host:9108 had to act again and again: end_worker on minilm, 6 times in an hour",
        labels={"action": "end_worker", "target": "minilm"},
        at="65m",
    ),
    Case(
        "WatchdogOutOfBudget",
        "critical",
        {f'watchdog_budget_remaining{{{JOB}, action="restart_torchserve", target="torchserve"}}': "4x5 1x5 0x20"},
        {f'watchdog_budget_remaining{{{JOB}, action="restart_torchserve", target="torchserve"}}': "4x5 1x30"},
        "the watchdog on host:9108 does not get torchserve well: restart_torchserve has 0 left of its hour's budget",
        labels={"action": "restart_torchserve", "target": "torchserve"},
    ),
    Case(
        "WatchdogStopped",
        "warning",
        {f"watchdog_last_look_timestamp_seconds{{{JOB}}}": "0+60x9 600x30"},
        {f"watchdog_last_look_timestamp_seconds{{{JOB}}}": "0+60x30"},
        "the watchdog on host:9108 has not looked for 10m 0s",
        labels={},
    ),
    Case(
        "WatchdogPaused",
        "warning",
        {f"watchdog_paused{{{JOB}}}": "1x400"},
        {f"watchdog_paused{{{JOB}}}": "1x200 0 1x200"},
        "the watchdog on host:9108 has been paused for 4 hours (paused 1)",
        labels={},
        at="5h",
    ),
    Case(
        "WatchdogLockedOut",
        "warning",
        {
            f"watchdog_locked_out_seconds{{{JOB}}}": "0x9 15+15x20",
            f"watchdog_lock_holder_stopped{{{JOB}}}": "0x9 1x20",
        },
        {
            f"watchdog_locked_out_seconds{{{JOB}}}": "0+15x20",
            f"watchdog_lock_holder_stopped{{{JOB}}}": "0x20",
        },
        "the watchdog on host:9108 has not acted for 2m 45s: a command holds the deployment's lock",
        labels={},
    ),
    Case(
        "WatchdogLockedOut",
        "warning",
        {f"watchdog_locked_out_seconds{{{JOB}}}": "0+60x60", f"watchdog_lock_holder_stopped{{{JOB}}}": "0x60"},
        {f"watchdog_locked_out_seconds{{{JOB}}}": "50x60", f"watchdog_lock_holder_stopped{{{JOB}}}": "1x60"},
        "the watchdog on host:9108 has not acted for 16m 0s: a command holds the deployment's lock",
        labels={},
        at="16m",
    ),
    Case(
        "GatewayDown",
        "critical",
        {f"gateway_up{{{JOB}}}": "1x9 0x20"},
        {f"gateway_up{{{JOB}}}": "1x19 0 1x10"},
        "the gateway on host:9108 does not answer (gateway_up 0)",
        labels={},
    ),
    Case(
        "GatewayOpen",
        "critical",
        {f"gateway_wrongly_open{{{JOB}}}": "0x9 1x20", f"gateway_open{{{JOB}}}": "1x30"},
        {f"gateway_wrongly_open{{{JOB}}}": "0x19 1 0x10", f"gateway_open{{{JOB}}}": "1x30"},
        "the gateway on host:9108 lets in who has no key, and must not (wrongly_open 1)",
        labels={},
    ),
    Case(
        "ExporterDown",
        "critical",
        {f"up{{{JOB}}}": "1x9 0x20"},
        {f"up{{{JOB}}}": "1x30"},
        "Prometheus has no metrics from host:9108 (up 0)",
        labels={},
    ),
    Case(
        "SourceDown",
        "warning",
        {f'embedkit_source_up{{{JOB}, source="management"}}': "1x9 0x20"},
        {f'embedkit_source_up{{{JOB}, source="management"}}': "1x16 0x2 1x9"},
        "the exporter on host:9108 gets nothing from management (source_up 0)",
        labels={"source": "management"},
    ),
    Case(
        "GpuAbsent",
        "critical",
        {
            f'embedding_device_expected{{{MINILM}, device="cuda"}}': "1x30",
            f'embedding_model_info{{{MINILM}, device="cpu", version="1.0"}}': "1x30",
            f'gpu_info{{{GPU}, index="0"}}': "1x30",
        },
        {
            f'embedding_device_expected{{{MINILM}, device="cuda"}}': "1x30",
            f'embedding_model_info{{{MINILM}, device="cuda:0", version="1.0"}}': "1x30",
            f'gpu_info{{{GPU}, index="0"}}': "1x30",
        },
        "minilm on host:9108: a GPU was asked for or is there and is not used (device cuda: 1)",
        labels={"model": "minilm", "device": "cuda"},
    ),
    Case(  # the driver is gone and with it every model
        "GpuAbsent",
        "critical",
        {f'embedding_device_expected{{{MINILM}, device="cuda"}}': "1x30"},
        {f'embedding_device_expected{{{MINILM}, device="cpu"}}': "1x30"},
        "minilm on host:9108: a GPU was asked for or is there and is not used (device cuda: 1)",
        labels={"model": "minilm", "device": "cuda"},
    ),
    Case(  # nobody asked for the GPU that is there; nor does anybody where there is none
        "GpuAbsent",
        "critical",
        {
            f'embedding_device_expected{{{MINILM}, device="auto"}}': "1x30",
            f'embedding_model_info{{{MINILM}, device="cpu", version="1.0"}}': "1x30",
            f'gpu_info{{{GPU}, index="0"}}': "1x30",
        },
        {
            f'embedding_device_expected{{{MINILM}, device="auto"}}': "1x30",
            f'embedding_model_info{{{MINILM}, device="cpu", version="1.0"}}': "1x30",
        },
        "minilm on host:9108: a GPU was asked for or is there and is not used (device auto: 1)",
        labels={"model": "minilm", "device": "auto"},
    ),
    Case(
        "GpuIdle",
        "warning",
        {
            f"gpu_utilization_ratio{{{GPU}}}": "0x40",
            f'embedding_model_info{{{MINILM}, device="cuda:0", version="1.0"}}': "1x40",
            f'embedding_request_duration_seconds_count{{{MINILM}, code="200"}}': "0+600x40",
        },
        {
            f"gpu_utilization_ratio{{{GPU}}}": "0 0 0 0 0 0.4 0 0 0 0 0 0.4 0 0 0 0 0 0.4 0 0 0 0 0 0.4",
            f'embedding_model_info{{{MINILM}, device="cuda:0", version="1.0"}}': "1x40",
            f'embedding_request_duration_seconds_count{{{MINILM}, code="200"}}': "0+600x40",
        },
        "no GPU of host:9108 was busier than 0% in 10 minutes, and models on it get requests",
        labels={},
    ),
    Case(
        "GpuMemoryHigh",
        "warning",
        {f"gpu_memory_used_bytes{{{GPU}}}": "97x30", f"gpu_memory_total_bytes{{{GPU}}}": "100x30"},
        {f"gpu_memory_used_bytes{{{GPU}}}": "80x30", f"gpu_memory_total_bytes{{{GPU}}}": "100x30"},
        "97% of the memory of GPU GPU-1 on host:9108 is used",
        labels={"uuid": "GPU-1"},
    ),
    Case(
        "GpuHot",
        "warning",
        {f"gpu_temperature_celsius{{{GPU}}}": "60x4 91x30"},
        {f"gpu_temperature_celsius{{{GPU}}}": "80x30"},
        "GPU GPU-1 on host:9108 is at 91 °C",
        labels={"uuid": "GPU-1"},
    ),
    Case(
        "DiskFilling",
        "warning",
        {
            f'host_filesystem_free_bytes{{{JOB}, volume="logs"}}': "5x30",
            f'host_filesystem_size_bytes{{{JOB}, volume="logs"}}': "100x30",
        },
        {
            f'host_filesystem_free_bytes{{{JOB}, volume="logs"}}': "50x30",
            f'host_filesystem_size_bytes{{{JOB}, volume="logs"}}': "100x30",
        },
        "5% of the disk of logs on host:9108 is free",
        labels={"volume": "logs"},
    ),
    Case(
        "HostMemoryLow",
        "warning",
        {f"host_memory_available_bytes{{{JOB}}}": "2x30", f"host_memory_total_bytes{{{JOB}}}": "100x30"},
        {f"host_memory_available_bytes{{{JOB}}}": "20x30", f"host_memory_total_bytes{{{JOB}}}": "100x30"},
        "2% of the memory that host:9108 may use is available",
        labels={},
    ),
)
