"""Upper bounds of the histogram of whole requests.

A quantile is some place in the right bucket, so it is wrong by at most the bucket's width: neighbours a factor of 1.1
apart keep every quantile within 10 %, wherever in its bucket Prometheus puts it.
"""

FACTOR = 1.1


def geometric(first: float, last: float, factor: float = FACTOR) -> list[float]:
    """Bounds from `first` to at least `last`, each `factor` times the one before, to four digits."""
    bounds = [first]
    while bounds[-1] < last * (1 - 1e-9):
        bounds.append(first * factor ** len(bounds))
    return [float(f"{bound:.4g}") for bound in bounds]


# What a latency target is likely to be: the share of answers below a bound is exact.
TARGETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.5, 2.5)

# Below 10 ms the access log's whole milliseconds are coarser than any bucket could be; above 10 s a request is late by
# any measure, up to where a client has long given up.
REQUEST_SECONDS = tuple(
    sorted({0.001, 0.002, 0.003, 0.005, 0.007, *geometric(0.01, 10), 15.0, 30.0, 60.0, 120.0, *TARGETS})
)
CANARY_SECONDS = REQUEST_SECONDS
