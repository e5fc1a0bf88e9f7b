"""Rules, dashboards and runbooks name metrics that the exporter has, with labels that they have."""

import pytest

from ops.exporter.buckets import REQUEST_SECONDS
from ops.grafana.boards import BOARDS
from ops.prometheus.alerts import ALERTS
from ops.prometheus.recording import RECORDINGS
from ops.prometheus.thresholds import FAST_WITHIN_S
from tests.ops.prometheus.promql import faults, without_variables

EXPRESSIONS = [
    *(rule.expr for rule in RECORDINGS),
    *(alert.expr for alert in ALERTS),
    *(without_variables(query.expr) for board in BOARDS for panel in board.panels for query in panel.queries),
]


def test_every_name_exists() -> None:
    """Each selector of each expression names a metric of the exporter or a recording rule, and labels that it has."""
    assert len(EXPRESSIONS) > 80
    assert {expr: faults(expr) for expr in EXPRESSIONS if faults(expr)} == {}


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("rate(embedding_request_seconds_count[5m])", "embedding_request_seconds_count does not exist"),
        ('torchserve_queue_length{version="1.0"}', "torchserve_queue_length has no label"),
    ],
)
def test_a_wrong_name_is_found(expr: str, said: str) -> None:
    """A metric or label that does not exist would be seen."""
    assert [said in one for one in faults(expr)] == [True]


def test_the_latency_target_is_a_bucket() -> None:
    """The share of fast answers is exact, since the target is a bucket's boundary."""
    assert FAST_WITHIN_S in REQUEST_SECONDS
    assert int(FAST_WITHIN_S) != FAST_WITHIN_S, 'Prometheus 2 has le="1.0" where 3 has le="1"'
