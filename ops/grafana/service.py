"""The dashboard *Embedding service*, in the order in which somebody on call asks."""

from ops.grafana.panels import HERE, MODEL, Board, Panel, Query, Row, quantiles
from ops.prometheus import thresholds as limits
from ops.prometheus.thresholds import BURNS

REQUESTS = "embedding_request_duration_seconds"
RATE = "$__rate_interval"
STARTS = "{{model}} starts"
PAGE = max(burn.factor for burn in BURNS)
LAST = min(burn.factor for burn in BURNS)


def _burn(title: str, share: str, budget: float, what: str, runbook: str) -> Panel:
    return Panel(
        title,
        tuple(
            Query(
                f"instance_model:{share}:ratio_rate{window}{{{MODEL}}} / {budget:.10g}",
                f"{{{{model}}}} {window}",
            )
            for window in ("5m", "1h", "6h")
        ),
        "suffix:×",
        f"How many times too fast the month's budget of {what} goes. At 1 it just lasts; a gap is no traffic.",
        "requests are going wrong now; begin with the failed share and the answers by status below.",
        (runbook,),
        red=PAGE,
        yellow=LAST,
        width=9,
    )


BUDGET = Row(
    "Error budget",
    (
        Panel(
            "Alerts firing",
            (
                Query(
                    f'sum by (alertname, severity) (ALERTS{{alertstate="firing", {HERE}}})',
                    "{{alertname}} ({{severity}})",
                ),
            ),
            "none",
            "Alerts that fire now. Nothing here is good.",
            "open the runbook of the alert that is named.",
            ("TorchServeDown", "CanaryFailing", "SourceDown"),
            red=1,
            width=6,
            kind="stat",
        ),
        _burn(
            "Burn: failed requests",
            "embedding_requests_failed",
            1 - limits.ANSWERED,
            "failed requests",
            "EmbeddingErrorBudgetBurn",
        ),
        _burn(
            "Burn: slow requests",
            "embedding_requests_slow",
            1 - limits.FAST,
            f"answers slower than {limits.FAST_WITHIN_S} s",
            "EmbeddingLatencyBudgetBurn",
        ),
    ),
)

TRAFFIC = Row(
    "Rate, errors, duration",
    (
        Panel(
            "Answers by status",
            (Query(f"sum by (model, code) (rate({REQUESTS}_count{{{MODEL}}}[{RATE}]))", "{{model}} {{code}}"),),
            "reqps",
            "Requests a second by HTTP status, as the gateway answers where it runs; canaries not. 4xx are the "
            "clients' own, 499 one that went away.",
            "compare it with the failed share.",
            ("EmbeddingErrorBudgetBurn", "QueueSaturated"),
        ),
        Panel(
            "Failed share",
            (
                Query(
                    f'(sum by (model) (rate({REQUESTS}_count{{{MODEL}, code=~"5.."}}[{RATE}])) '
                    f'or 0 * sum by (model) (rate({REQUESTS}_count{{{MODEL}, code!~"4.."}}[{RATE}]))) '
                    f'/ sum by (model) (rate({REQUESTS}_count{{{MODEL}, code!~"4.."}}[{RATE}]))',
                    "{{model}}",
                ),
            ),
            "percentunit",
            "5xx among the valid requests.",
            "503 is a full queue or no worker, 500 a worker that failed: `embedkit status`, then var/log/model.log.",
            ("EmbeddingErrorBudgetBurn", "RequestsRefused", "NoReadyWorker"),
            red=PAGE * (1 - limits.ANSWERED),
            yellow=1 - limits.ANSWERED,
        ),
        Panel(
            "Latency",
            quantiles(REQUESTS, "model", selector=f'{MODEL}, code=~"2.."'),
            "s",
            "From the request's first byte at the gateway, or its arrival in the server, to its answer; vectors alone.",
            "see below where the time goes; a long queue means more work than the workers can do.",
            ("EmbeddingLatencyBudgetBurn", "QueueSaturated"),
            red=limits.FAST_WITHIN_S,
        ),
    ),
)

STAGES = Row(
    "Where the time goes",
    (
        Panel(
            "Wait in the queue, mean",
            (
                Query(
                    f"sum by (model) (rate(torchserve_queue_latency_seconds_total{{{MODEL}}}[{RATE}])) "
                    f"/ sum by (model) (rate(torchserve_inference_requests_total{{{MODEL}}}[{RATE}]))",
                    "{{model}}",
                ),
            ),
            "s",
            "Time before a worker takes the request. TorchServe gives only a sum, so this is a mean.",
            "more work comes than the workers can do, or they are fewer than usual.",
            ("QueueSaturated", "EmbeddingLatencyBudgetBurn"),
            red=limits.FAST_WITHIN_S,
        ),
        Panel(
            "Stages, p99",
            (
                Query(
                    "histogram_quantile(0.99, sum by (model, stage, le) "
                    f"(rate(embedding_stage_duration_seconds_bucket{{{MODEL}}}[{RATE}])))",
                    "{{model}} {{stage}}",
                ),
            ),
            "s",
            "Of one batch in its worker: decode, tokenize, forward, encode.",
            "forward: larger batches, longer texts, or a worker on the CPU; all: something else takes the cores.",
            ("EmbeddingLatencyBudgetBurn", "GpuAbsent"),
            red=limits.FAST_WITHIN_S,
        ),
        Panel(
            "Busy workers by stage",
            (
                Query(
                    f"sum by (stage) (rate(embedding_stage_duration_seconds_sum{{{MODEL}}}[{RATE}]))",
                    "{{stage}}",
                ),
            ),
            "short",
            "Worker-seconds spent a second, one on top of the other: the height is how many workers are busy.",
            "near the number of workers, there is no more capacity.",
            ("QueueSaturated",),
            stacked=True,
        ),
    ),
)

BATCHES = Row(
    "Batches",
    (
        Panel(
            "Texts a batch",
            quantiles("embedding_batch_texts", "model"),
            "short",
            "Texts computed together. Under load more is better: batches fill by themselves while workers are busy.",
            "read it with the latency of forward.",
            ("EmbeddingLatencyBudgetBurn",),
            width=6,
        ),
        Panel(
            "Texts and tokens",
            (
                Query(f"sum by (model) (rate(embedding_texts_total{{{MODEL}}}[{RATE}]))", "{{model}} texts/s"),
                Query(f"sum by (model) (rate(embedding_tokens_total{{{MODEL}}}[{RATE}]))", "{{model}} tokens/s"),
            ),
            "short",
            "What is computed a second, padding not counted.",
            "`embedkit bench` says what this machine can do.",
            ("QueueSaturated",),
            width=6,
        ),
        Panel(
            "Padding",
            (
                Query(
                    f"1 - sum by (model) (rate(embedding_tokens_total{{{MODEL}}}[{RATE}])) "
                    f"/ sum by (model) (rate(embedding_padded_tokens_total{{{MODEL}}}[{RATE}]))",
                    "{{model}}",
                ),
            ),
            "percentunit",
            "Share of what is computed that is padding.",
            "texts of very different length meet in a batch: docs/batching.md.",
            ("EmbeddingLatencyBudgetBurn",),
            red=limits.PADDING_RATIO,
            width=6,
            top=1,
        ),
        Panel(
            "Texts cut to the model's limit",
            (
                Query(
                    f"sum by (model) (rate(embedding_truncated_texts_total{{{MODEL}}}[{RATE}])) "
                    f"/ sum by (model) (rate(embedding_texts_total{{{MODEL}}}[{RATE}]))",
                    "{{model}}",
                ),
            ),
            "percentunit",
            "Share of texts whose end is not in their vector.",
            'clients send longer texts than the model takes: they should split them, or ask for `"truncate": false`.',
            ("EmbeddingErrorBudgetBurn",),
            red=limits.TRUNCATED_RATIO,
            width=6,
            top=1,
        ),
    ),
)

WORKERS = Row(
    "Queue and workers",
    (
        Panel(
            "Queue",
            (Query(f"max by (model) (instance_model:torchserve_queue_length:max1m_ratio{{{MODEL}}})", "{{model}}"),),
            "percentunit",
            "How full the queue was at worst in a minute. A full one refuses with 503.",
            "more work than the workers can do.",
            ("QueueSaturated",),
            red=limits.QUEUE_FULL_RATIO,
            width=6,
            top=1,
        ),
        Panel(
            "Ready workers",
            (
                Query(
                    f"sum by (model) (instance_model:torchserve_workers_ready:sum{{{MODEL}}}) "
                    f"/ sum by (model) (instance_model:torchserve_workers_wanted:sum{{{MODEL}}})",
                    "{{model}}",
                ),
            ),
            "percentunit",
            "Of those that the model should have. A gap means that TorchServe does not answer.",
            "`embedkit status`, then var/log/model.log.",
            ("NoReadyWorker", "TorchServeDown"),
            red=0.01,
            yellow=1,
            low_is_bad=True,
            width=6,
            top=1,
        ),
        Panel(
            "Workers that ended early",
            (
                Query(f"sum by (model) (instance_model:torchserve_worker_early_ends:count15m{{{MODEL}}})", "{{model}}"),
                Query(
                    f"sum by (model) (instance_model:torchserve_worker_starts:count15m{{{MODEL}}})", "{{model}} starts"
                ),
            ),
            "short",
            "Workers that started and ended within 15 minutes, and starts. All end with their server.",
            "workers die: var/log/model.log says of what.",
            ("WorkerCrashLoop",),
            red=limits.CRASH_LOOP_ENDS,
            yellow=1,
            width=6,
        ),
        Panel(
            "Program restarts",
            (Query(f"changes(supervisor_process_start_time_seconds{{{HERE}}}[1h])", "{{name}}"),),
            "short",
            "Starts in an hour of each program of supervisord.",
            "`supervisorctl status`, then var/log/supervisord.log.",
            ("ProgramRestarting", "ProgramFatal"),
            red=limits.RESTARTS_PER_HOUR + 1,
            yellow=1,
            width=6,
        ),
    ),
)

CANARY = Row(
    "Canary",
    (
        Panel(
            "Right vector",
            (Query(f"min by (model) (canary_success{{{MODEL}}})", "{{model}}"),),
            "bool_yes_no",
            "Whether a known text came back as the right vector, from TorchServe itself.",
            "users get nothing, or wrong vectors: `embedkit status`.",
            ("CanaryFailing", "TorchServeDown"),
            red=0,
            yellow=1,
            low_is_bad=True,
            width=6,
            kind="stat",
        ),
        Panel(
            "Canary latency",
            quantiles("canary_duration_seconds", "model", window="5m"),
            "s",
            "What a client waits for one short text. A gap means that no canary came back.",
            "compare with the latency above: if only this is slow, the machine is.",
            ("CanaryFailing", "EmbeddingLatencyBudgetBurn"),
            red=limits.FAST_WITHIN_S,
            width=9,
        ),
        Panel(
            "Cosine to the reference",
            (Query(f"min by (model) (canary_cosine{{{MODEL}}})", "{{model}}"),),
            "none",
            "1 is the vector that was kept when the archive was verified.",
            "vectors are silently wrong: `embedkit verify`, and `embedkit down` until the cause is known.",
            ("CanaryDrifting",),
            red=limits.CANARY_COSINE,
            low_is_bad=True,
            width=9,
            bottom=0.998,
            top=1,
        ),
    ),
)

GATEWAY = Row(
    "Gateway",
    (
        Panel(
            "Requests by key",
            (Query(f"sum by (key) (rate(gateway_key_requests_total{{{HERE}}}[{RATE}]))", "{{key}}"),),
            "reqps",
            "Requests a second of each API key, by its name. Empty where no gateway runs.",
            "one client sends more than it should: `gateway_key_rate`. `anonymous`: no key is needed.",
            ("GatewayDown", "GatewayOpen"),
            width=12,
        ),
        Panel(
            "Errors by key",
            (Query(f"sum by (key, kind) (rate(gateway_key_errors_total{{{HERE}}}[{RATE}]))", "{{key}} {{kind}}"),),
            "reqps",
            "Answers with 4xx (client; 429 among them) and 5xx (server). Requests without a known key have no name.",
            "var/log/gateway.log has each one's status.",
            ("GatewayDown", "QueueSaturated"),
            width=12,
        ),
        Panel(
            "Places taken",
            (Query(f"max by (model) (instance_model:gateway_admitted_requests:max1m_ratio{{{MODEL}}})", "{{model}}"),),
            "percentunit",
            "Requests let in to TorchServe, of those that may be, at worst in a minute. Beyond it refuses with 503.",
            "more work than the workers can do.",
            ("QueueSaturated", "RequestsRefused"),
            red=limits.QUEUE_FULL_RATIO,
            width=12,
            top=1,
        ),
        Panel(
            "Right vector through the gateway",
            (Query(f"min by (model) (gateway_canary_success{{{MODEL}}})", "{{model}}"),),
            "bool_yes_no",
            "Whether a known text came back as the right vector through the users' own door.",
            "where the canary above is well, it is the gateway: var/log/gateway.log.",
            ("GatewayCanaryFailing", "GatewayDown"),
            red=0,
            yellow=1,
            low_is_bad=True,
            width=12,
            kind="stat",
        ),
    ),
)

SERVICE = Board(
    "embedkit-service",
    "Embedding service",
    "What users of the embedding service get, and why.",
    (BUDGET, TRAFFIC, STAGES, BATCHES, WORKERS, CANARY, GATEWAY),
)
