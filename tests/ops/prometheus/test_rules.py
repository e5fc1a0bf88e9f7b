"""The committed rules, judged by the real promtool: they parse, and each alert fires when it should and only then."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.prometheus import thresholds
from ops.prometheus.alerts import ALERTS
from ops.prometheus.recording import RECORDINGS
from ops.prometheus.rules import files
from tests.ops.prometheus.cases import CASES, JOB, Case
from tests.ops.prometheus.promtool import RULES, promtool, run_rule_tests, series

# What prometheus says for $externalURL is empty in promtool.
URL = "/user/{}.md"


def expected(name: str, severity: str, summary: str, /, **labels: str) -> dict[str, Any]:
    base = {"instance": "host:9108", "job": "embedkit", "severity": severity}
    return {
        "exp_labels": base | labels,
        "exp_annotations": {"summary": summary, "runbook_url": URL.format(name)},
    }


def check(name: str, at: str, alerts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"alertname": name, "eval_time": at, "exp_alerts": list(alerts)}]


def test_the_rule_files_are_current() -> None:
    """ops/prometheus/rules/ is what the code says; `make rules` mends it."""
    assert {file: file.read_text(encoding="utf-8") for file in RULES} == files()


@pytest.mark.needs("promtool")
def test_promtool_accepts_the_rules() -> None:
    """`promtool check rules` finds every rule and no fault."""
    done = promtool("check", "rules", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(map(int, re.findall(r"(\d+) rules found", done.stdout))) == len(ALERTS) + len(RECORDINGS)


def test_recording_rules_are_named_as_the_field_does() -> None:
    """level:metric:operations, and nothing is aggregated with `by`."""
    for rule in RECORDINGS:
        assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule.record), rule.record
    assert not [rule.record for rule in RECORDINGS if " by " in rule.expr]


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{next(iter(case.silent))[:20]}")
def test_an_alert_fires_and_keeps_silent(case: Case, tmp_path: Path) -> None:
    """The alert fires on the one set of series, naming model and value, and not on the other."""
    firing = expected(case.alert, case.severity, case.summary, **case.labels)
    run_rule_tests(
        tmp_path,
        [
            {
                "interval": "1m",
                "input_series": series(case.fires),
                "alert_rule_test": check(case.alert, case.at, [firing]),
            },
            {"interval": "1m", "input_series": series(case.silent), "alert_rule_test": check(case.alert, case.at, [])},
        ],
    )


@pytest.mark.needs("promtool")
def test_an_exporter_that_was_never_there_is_an_alert(tmp_path: Path) -> None:
    """Without any target of the job, ExporterDown fires too."""
    says = {"summary": "Prometheus has no metrics from any embedkit (up 0)", "runbook_url": URL.format("ExporterDown")}
    firing = {"exp_labels": {"job": "embedkit", "severity": "critical"}, "exp_annotations": says}
    test = {"interval": "1m", "input_series": [], "alert_rule_test": check("ExporterDown", "5m", [firing])}
    run_rule_tests(tmp_path, [test])


# The share of bad requests in percent, and the windows whose budget burns too fast with it.
ERRORS = {10.0: ("1h", "6h", "1d", "3d"), 4.0: ("6h", "1d", "3d"), 2.0: ("1d", "3d"), 1.0: ("3d",), 0.3: ()}
SLOW = {20.0: ("1h", "6h", "1d", "3d"), 8.0: ("6h", "1d", "3d"), 4.0: ("1d", "3d"), 2.0: ("3d",), 0.5: ()}
FACTORS = {"1h": "14.4", "6h": "6", "1d": "3", "3d": "1"}
SEVERITIES = {"1h": "critical", "6h": "critical", "1d": "warning", "3d": "warning"}


def requests_of(model: str, total: float, *, failed: float = 0, slow: float = 0, samples: int) -> dict[str, str]:
    """Series of `total` requests a sample, so many of them failed or slow."""
    labels = f'{JOB}, model="{model}"'
    name = "embedding_request_duration_seconds"
    le = thresholds.FAST_WITHIN_S
    answered = total - failed
    return {
        f'{name}_count{{{labels}, code="200"}}': f"0+{answered:g}x{samples}",
        f'{name}_count{{{labels}, code="500"}}': f"0+{failed:g}x{samples}",
        f'{name}_count{{{labels}, code="400"}}': f"0+{total:g}x{samples}",
        f'{name}_bucket{{{labels}, code="200", le="{le}"}}': f"0+{answered - slow:g}x{samples}",
    }


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("name", "shares", "what"),
    [
        ("EmbeddingErrorBudgetBurn", ERRORS, "failed"),
        ("EmbeddingLatencyBudgetBurn", SLOW, f"took longer than {thresholds.FAST_WITHIN_S} s"),
    ],
)
def test_each_burn_rate_has_its_window(
    name: str, shares: dict[float, tuple[str, ...]], what: str, tmp_path: Path
) -> None:
    """A share of bad requests, kept up for three days, fires exactly the pairs whose factor it exceeds."""
    given: dict[str, str] = {}
    firing = []
    for percent, windows in shares.items():
        model = f"m{percent:g}".replace(".", "_")
        bad = {"failed": percent * 10} if shares is ERRORS else {"slow": percent * 10}
        given |= requests_of(model, 1000, samples=76 * 30, **bad)
        for window in windows:
            summary = (
                f"{model} on host:9108: {percent:g}% of the requests of the last {window} {what}, "
                f"more than {FACTORS[window]} times what the objective allows"
            )
            firing.append(expected(name, SEVERITIES[window], summary, model=model, window=window))
    test = {"interval": "2m", "input_series": series(given), "alert_rule_test": check(name, "76h", firing)}
    run_rule_tests(tmp_path, [test], evaluation_interval="30m")


@pytest.mark.needs("promtool")
def test_few_requests_burn_nothing(tmp_path: Path) -> None:
    """Half of too few requests failing is no alert."""
    few = requests_of("minilm", 1, failed=0.5, samples=90)
    name = "EmbeddingErrorBudgetBurn"
    run_rule_tests(
        tmp_path, [{"interval": "1m", "input_series": series(few), "alert_rule_test": check(name, "80m", [])}]
    )


@pytest.mark.needs("promtool")
def test_past_trouble_pages_no_more(tmp_path: Path) -> None:
    """Half of all requests failed until seven minutes ago: the fast pair is silent again, the slower ones are not."""
    given = {
        f'embedding_request_duration_seconds_count{{{JOB}, model="minilm", code="200"}}': "0+500x90",
        f'embedding_request_duration_seconds_count{{{JOB}, model="minilm", code="500"}}': "0+500x70 35000x20",
    }
    name = "EmbeddingErrorBudgetBurn"
    firing = [
        expected(
            name,
            SEVERITIES[window],
            f"minilm on host:9108: 47.62% of the requests of the last {window} failed, "
            f"more than {FACTORS[window]} times what the objective allows",
            model="minilm",
            window=window,
        )
        for window in ("6h", "1d")
    ]
    run_rule_tests(
        tmp_path, [{"interval": "1m", "input_series": series(given), "alert_rule_test": check(name, "77m", firing)}]
    )


def test_every_alert_has_its_cases() -> None:
    """No alert is without a firing and a silent case here."""
    burns = {"EmbeddingErrorBudgetBurn", "EmbeddingLatencyBudgetBurn"}
    assert {alert.name for alert in ALERTS} == {case.alert for case in CASES} | burns


def test_alerts_name_model_or_place_and_value() -> None:
    """Every alert has a severity that is routed on, a summary with the value, and where it is."""
    for rules in yaml.safe_load(RULES[0].read_text())["groups"]:
        for rule in rules["rules"]:
            summary = rule["annotations"]["summary"]
            assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
            assert "$value" in summary, rule["alert"]
            assert "$labels.instance" in summary, rule["alert"]
