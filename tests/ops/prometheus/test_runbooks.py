"""Each alert has its page, and what the page says can be done here."""

import re
from pathlib import Path

import pytest

from ops.prometheus import thresholds
from ops.prometheus.alerts import ALERTS
from ops.prometheus.config import RUNBOOKS
from ops.settings import ROOT, Settings
from ops.supervisor.config import supervisord_conf
from tests.ops.prometheus.promql import faults

PAGES = sorted(RUNBOOKS.glob("*.md"))
# supervisorctl's own, of its `help`.
ACTIONS = {"start", "stop", "restart", "status", "tail"}


def test_each_alert_has_its_page() -> None:
    """One page an alert, and none of an alert that is gone."""
    assert {alert.name for alert in ALERTS} == {page.stem for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_complete(page: Path) -> None:
    """Title, Meaning, Impact, Diagnosis and Mitigation, in this order, none of them empty."""
    text = page.read_text(encoding="utf-8")
    parts = re.split(r"^(#+ .+)$", text, flags=re.MULTILINE)[1:]
    name = page.stem
    assert parts[::2] == [f"# {name}", "## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
    assert all(content.strip() for content in parts[3::2])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_exist(page: Path) -> None:
    """supervisorctl is told a program and an action that it has, and queries and thresholds name what is there."""
    text = page.read_text(encoding="utf-8")
    programs = {*re.findall(r"\[(?:program|eventlistener):(\w+)\]", supervisord_conf(Settings())), "gateway"}
    for action, program in re.findall(r"supervisorctl (\w+)(?: (\w+))?", text):
        assert action in ACTIONS
        assert program in programs or (program == "" and action == "status"), f"{action} {program}"
    for expr in re.findall(r"^promtool query instant \S+ '?(.+?)'?$", text, re.MULTILINE):
        assert faults(expr) == []
    for constant in re.findall(r"`([A-Z][A-Z_]+)`", text):
        assert hasattr(thresholds, constant) or constant in {"STOPPED", "FATAL", "BACKOFF"}, constant


def test_the_page_lists_the_alerts() -> None:
    """docs/observability.md has every alert with its severities, and the promises are those of thresholds.py."""
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\w+) \| ((?:critical|warning)(?:, warning)?) \| \[", text, re.MULTILINE)
    severities: dict[str, set[str]] = {}
    for alert in ALERTS:
        severities.setdefault(alert.name, set()).add(alert.severity)
    assert {name: set(said.split(", ")) for name, said in listed} == severities
    promises = (thresholds.ANSWERED * 100, thresholds.FAST * 100, thresholds.FAST_WITHIN_S, thresholds.MIN_REQUESTS)
    answered, fast, within, least = (f"{value:g}" for value in promises)
    said = " ".join(text.split())
    assert (
        f"{answered} % of the valid requests get a vector, and {fast} % of the vectors come within {within} s" in said
    )
    assert f"the long one must have {least} requests" in said
