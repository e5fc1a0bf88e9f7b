"""What an expression refers to, as a PromQL parser sees it."""

import re

import promql_parser

from ops.exporter.families import FAMILIES
from ops.prometheus.recording import RECORDINGS

# Grafana's variables, with what they stand for when everything is chosen.
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*", "$model": ".*"}
# Prometheus' own, and those of every program that uses prometheus_client.
GIVEN = {"up": {"instance", "job"}, "ALERTS": {"alertname", "alertstate", "severity", "instance", "job", "model"}}


def without_variables(expr: str, interval: str = "1m") -> str:
    """The expression as Grafana would send it."""
    for name, value in (VARIABLES | {"$__rate_interval": interval}).items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def selectors(expr: str) -> list[tuple[str, set[str]]]:
    """(metric, labels asked for) of each selector in the expression; a fault in it is a ValueError."""
    found: list[tuple[str, set[str]]] = []

    def see(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = {matcher.name for matcher in node.matchers.matchers}
            found.append((node.name or "", matchers))

    promql_parser.walk(promql_parser.parse(expr), pre_visit=see)
    return found


def known_labels(metric: str) -> set[str] | None:
    """The labels that a metric has on a Prometheus with our rules; None if there is no such metric."""
    if metric in GIVEN:
        return GIVEN[metric]
    if any(rule.record == metric for rule in RECORDINGS):
        return {"instance", "job", "model"}
    for name, family in FAMILIES.items():
        if family.kind == "histogram":
            if re.fullmatch(rf"{name}_(bucket|count|sum)", metric):
                return {"instance", "job", "le", *family.labels}
        elif metric == name:
            return {"instance", "job", *family.labels}
    return None


def faults(expr: str) -> list[str]:
    """What is wrong with an expression's names: unknown metrics, and labels that a metric does not have."""
    wrong = []
    for metric, labels in selectors(expr):
        known = known_labels(metric)
        if known is None:
            wrong.append(f"{metric} does not exist")
        elif labels - known:
            wrong.append(f"{metric} has no label {labels - known}")
    return wrong
