"""Every number that an alert or a dashboard judges by. After a change: `make rules`.

The objectives are the service's promise to its users; the rest says when an operator is disturbed.
"""

from dataclasses import dataclass

# Objectives, over 30 days and a model each.
ANSWERED = 0.995  # of the valid requests (all but 4xx) get a vector
FAST = 0.99  # of the vectors come within FAST_WITHIN_S
# A bucket boundary of embedding_request_duration_seconds: only there is the share known exactly. No whole number of
# seconds, which Prometheus 2 and 3 spell differently.
FAST_WITHIN_S = 0.5

# Fewer requests than this in the long window say nothing about a share: one failure among ten is no outage.
MIN_REQUESTS = 100


@dataclass(frozen=True)
class Burn:
    """One pair of windows: alert when the error budget goes `factor` times too fast in both, for `hold`."""

    factor: float
    long: str
    short: str
    hold: str
    severity: str


# The SRE workbook's pairs. At 14.4 a month's budget is gone in two days; at 1 it just lasts the month.
BURNS = (
    Burn(14.4, "1h", "5m", "2m", "critical"),
    Burn(6, "6h", "30m", "15m", "critical"),
    Burn(3, "1d", "2h", "1h", "warning"),
    Burn(1, "3d", "6h", "3h", "warning"),
)
WINDOWS = {"5m": 300, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21600, "1d": 86400, "3d": 259200}

CANARY_COSINE = 0.999  # the gate of archives in half precision, which may lie just above it; below the canary fails
CANARY_DROP = 0.0005  # so much less than at verification is a change, be it above the gate
CANARY_SILENT_S = 300  # above the longest canary_interval_s, 120, with one that times out between
CRASH_LOOP_ENDS = 3  # workers of a model that started and ended within 15 minutes, while the server went on
QUEUE_FULL_RATIO = 0.8  # of the queue, or of what the gateway lets in, which HAProxy says itself
REFUSED_RATIO = 0.05
RESTARTS_PER_HOUR = 2
WATCHDOG_ACTIONS_PER_HOUR = 3  # once is an accident that is over; below each budget
WATCHDOG_SILENT_S = 60  # it looks every 5
# Above what a load and a drain take together; a command that is stopped may be a hand's slip of some seconds.
WATCHDOG_LOCKED_OUT_S = 900
WATCHDOG_LOCKED_OUT_STOPPED_S = 60

GPU_IDLE_RATIO = 0.01
GPU_IDLE_REQUESTS_PER_S = 5.0  # a GPU that is sampled between rarer requests looks idle
GPU_MEMORY_RATIO = 0.95
GPU_HOT_CELSIUS = 87

DISK_FREE_RATIO = 0.10
MEMORY_AVAILABLE_RATIO = 0.05

# No alerts, lines in dashboards.
PADDING_RATIO = 0.5
TRUNCATED_RATIO = 0.1
LOAD_BY_CORE = 2
SOURCE_SLOW_S = 0.5
