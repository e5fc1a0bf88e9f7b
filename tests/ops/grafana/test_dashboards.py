"""The committed dashboards: current, whole, and readable by somebody who is woken by them."""

import json
from typing import Any

import pytest

from ops.grafana.boards import BOARDS
from ops.grafana.dashboards import files
from ops.grafana.panels import Panel
from ops.grafana.provisioning import DASHBOARDS
from ops.prometheus.alerts import ALERTS

PANELS = [panel for board in BOARDS for panel in board.panels]


def committed() -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(DASHBOARDS.glob("*.json"))]


def test_the_files_are_current() -> None:
    """ops/grafana/dashboards/ is what the code says; `make rules` mends it."""
    assert {file: file.read_text(encoding="utf-8") for file in DASHBOARDS.glob("*.json")} == files()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panel_says_what_to_do(panel: Panel) -> None:
    """It has a unit, says what to do, links runbooks that exist, and shows no raw counter."""
    assert panel.unit
    assert set(panel.runbooks) <= {alert.name for alert in ALERTS}
    assert panel.runbooks
    assert all(f"(${{runbooks}}/{name}.md)" in panel.description for name in panel.runbooks)
    for query in panel.queries:
        counter = any(part in query.expr for part in ("_total{", "_count{", "_bucket{", "_sum{"))
        assert not counter or any(f"{function}(" in query.expr for function in ("rate", "increase"))
        assert "[5m]" not in query.expr or "canary" in query.expr  # canaries are rarer than a rate interval


def test_a_file_is_ready_to_import() -> None:
    """Each has a data source to choose, instance and model as variables, and thresholds and a unit in every panel."""
    for board in committed():
        variables = {one["name"]: one["type"] for one in board["templating"]["list"]}
        assert variables == {"datasource": "datasource", "instance": "query", "model": "query", "runbooks": "constant"}
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        for panel in panels:
            assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults["unit"]
            assert defaults["thresholds"]["steps"]


def test_rows_fill_the_width() -> None:
    """No panel overlaps another or leaves the grid."""
    for board in committed():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells


def test_the_service_is_read_in_the_order_of_an_incident() -> None:
    """Budget, then rate, errors and duration, then where the time goes, batches, workers, canary, gateway."""
    rows = [row.title for row in BOARDS[0].rows]
    assert rows == [
        "Error budget",
        "Rate, errors, duration",
        "Where the time goes",
        "Batches",
        "Queue and workers",
        "Canary",
        "Gateway",
    ]
