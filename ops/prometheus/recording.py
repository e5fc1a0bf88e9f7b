"""The recording rules: rates and shares over each window that burn rates and dashboards ask for.

Named level:metric:operations; aggregated with `without`, so that labels of a scrape that this kit does not know stay.
"""

from dataclasses import dataclass

from ops.prometheus.thresholds import FAST_WITHIN_S, WINDOWS

REQUESTS = "embedding_request_duration_seconds"
STARTS = "torchserve_worker_start_time_seconds"
STARTED = f"count without (pid) (last_over_time({STARTS}[15m]) > time() - 900)"
# A client's own mistakes are no failure of the service, and no proof of its health.
VALID, FAILED, ANSWERED = 'code!~"4.."', 'code=~"5.."', 'code=~"2.."'


@dataclass(frozen=True)
class Recording:
    """One recording rule."""

    record: str
    expr: str


def _over(window: str) -> list[Recording]:
    def requests(selector: str, part: str = "count", *, without: str = "code") -> str:
        return f"sum without ({without}) (rate({REQUESTS}_{part}{{{selector}}}[{window}]))"

    valid, answered = requests(VALID), requests(ANSWERED)
    fast = requests(f'{ANSWERED}, le="{FAST_WITHIN_S}"', "bucket", without="code, le")
    return [
        Recording(f"instance_model:embedding_requests:rate{window}", valid),
        # Without a failure yet there is no series of one, and the share is 0, not unknown.
        Recording(
            f"instance_model:embedding_requests_failed:ratio_rate{window}",
            f"({requests(FAILED)} or 0 * {valid})\n/\n{valid}",
        ),
        Recording(f"instance_model:embedding_requests_slow:ratio_rate{window}", f"1 - {fast}\n/\n{answered}"),
    ]


def _refused() -> Recording:
    refused, valid = (f"sum without (code) (rate({REQUESTS}_count{{{one}}}[5m]))" for one in ('code="503"', VALID))
    return Recording("instance_model:embedding_requests_refused:ratio_rate5m", f"{refused}\n/\n{valid}")


def _quantile(share: float) -> Recording:
    buckets = f"sum without (code) (rate({REQUESTS}_bucket{{{ANSWERED}}}[5m]))"
    return Recording(
        f"instance_model:embedding_request_duration_seconds:p{share * 100:.0f}_rate5m",
        f"histogram_quantile({share}, {buckets})",
    )


RECORDINGS: tuple[Recording, ...] = (
    *(rule for window in WINDOWS for rule in _over(window)),
    _refused(),
    *(_quantile(share) for share in (0.5, 0.95, 0.99)),
    Recording(
        "instance_model:torchserve_workers_ready:sum",
        'sum without (state, version) (torchserve_workers{state="READY"})',
    ),
    Recording(
        "instance_model:torchserve_workers_wanted:sum",
        "sum without (version) (torchserve_workers_wanted)",
    ),
    # A worker's pid is in the labels: whoever started within the window counts, the dead included.
    Recording("instance_model:torchserve_worker_starts:count15m", STARTED),
    Recording(
        "instance_model:torchserve_worker_early_ends:count15m",
        f"{STARTED}\n- (count without (pid) ({STARTS} > time() - 900) or 0 * {STARTED})",
    ),
    Recording(
        "instance_model:torchserve_queue_length:max1m_ratio",
        "max_over_time(torchserve_queue_length[1m]) / torchserve_queue_capacity",
    ),
    # The gateway counts what the workers compute too, and refuses before the queue is full.
    Recording(
        "instance_model:gateway_admitted_requests:max1m_ratio",
        "max without (bodies) (max_over_time(gateway_admitted_requests[1m]) / gateway_admission_limit)",
    ),
)
