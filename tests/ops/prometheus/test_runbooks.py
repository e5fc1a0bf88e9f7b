"""Each alert has its page, and what the page says can be done here."""

import re
from pathlib import Path

import pytest

from ops.prometheus import thresholds
from ops.prometheus.alerts import ALERTS
from ops.prometheus.config import RUNBOOKS
from ops.settings import Settings
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
    programs = set(re.findall(r"\[program:(\w+)\]", supervisord_conf(Settings())))
    for action, program in re.findall(r"supervisorctl (\w+)(?: (\w+))?", text):
        assert action in ACTIONS
        assert program in programs or (program == "" and action == "status"), f"{action} {program}"
    for expr in re.findall(r"^promtool query instant \S+ '?(.+?)'?$", text, re.MULTILINE):
        assert faults(expr) == []
    for constant in re.findall(r"`([A-Z][A-Z_]+)`", text):
        assert hasattr(thresholds, constant) or constant in {"STOPPED", "FATAL", "BACKOFF"}, constant
