"""Write the dashboards' JSON with Grafana's own builders: `make rules`. A test fails when one is stale.

Needs the development tools; Grafana itself needs only the files.
"""

from pathlib import Path

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model

from ops.grafana.boards import BOARDS
from ops.grafana.panels import Board, Panel
from ops.grafana.provisioning import DASHBOARDS, RUNBOOKS_URL
from ops.settings import ROOT

SOURCE = common.DataSourceRef("prometheus", "$datasource")
HEIGHT = 8


def _thresholds(panel: Panel) -> build.ThresholdsConfig:
    made = [model.Threshold(value, color) for value, color in panel.steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _stat() -> stat.Panel:
    last = build_common.ReduceDataOptions().calcs(["lastNotNull"])
    made = stat.Panel().no_value("none").reduce_options(last)
    return made.text_mode(common.BigValueTextMode.VALUE_AND_NAME)  # the name is what counts, be it alone


def _graph(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .min(panel.bottom)
        .line_width(1)
        .fill_opacity(25 if panel.stacked else 5)
        .show_points(common.VisibilityMode.NEVER)
        .thresholds_style(build_common.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED))
        .tooltip(build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if panel.stacked:
        made = made.stacking(build_common.StackingConfig().mode(common.StackingMode.NORMAL))
    return made if panel.top is None else made.max(panel.top)


def _panel(panel: Panel, number: int) -> timeseries.Panel | stat.Panel:
    made = _graph(panel) if panel.kind == "graph" else _stat()
    made = (
        made.id(number)
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .thresholds(_thresholds(panel))
        .datasource(SOURCE)
        .height(HEIGHT)
        .span(panel.width)
    )
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
        made = made.with_target(target.instant() if panel.kind == "stat" else target)
    return made


def _variable(name: str, query: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(True, ["All"], ["$__all"]))
    )


def dashboard(board: Board) -> str:
    """The dashboard's JSON."""
    made = (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["embedkit"])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .link(build.DashboardLink("embedkit").type(model.DashboardLinkType.DASHBOARDS).tags(["embedkit"]))
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("instance", 'label_values(up{job="embedkit"}, instance)'))
        .with_variable(_variable("model", 'label_values(embedding_device_expected{instance=~"$instance"}, model)'))
        .with_variable(build.ConstantVariable("runbooks").value(RUNBOOKS_URL))
    )
    number = 0
    for row in board.rows:
        made = made.with_row(build.Row(row.title))
        for panel in row.panels:
            number += 1
            made = made.with_panel(_panel(panel, number))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def files() -> dict[Path, str]:
    """Dashboard file → the text it has to have."""
    return {DASHBOARDS / f"{board.uid}.json": dashboard(board) for board in BOARDS}


if __name__ == "__main__":
    for file, text in files().items():
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file.relative_to(ROOT)}")
