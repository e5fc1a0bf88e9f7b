"""Configuration, provisioning and command line of the Grafana that supervisord runs."""

from pathlib import Path

import yaml

from ops.errors import OpsError
from ops.settings import ROOT, Settings

HEADER = "# Rendered by `embedkit up` from ops/grafana/provisioning.py: change embedkit.toml, not this.\n"
DASHBOARDS = ROOT / "ops" / "grafana" / "dashboards"
DATASOURCE_UID = "embedkit"
# Where the committed dashboards look for runbooks: Prometheus on its default port.
RUNBOOKS_URL = "http://127.0.0.1:9090/user"


def grafana_file(settings: Settings) -> Path:
    return settings.etc / "grafana.ini"


def _folder(settings: Settings) -> Path:
    return settings.etc / "grafana"


def _ini(settings: Settings) -> str:
    data = settings.var / "grafana"
    return f"""{HEADER}
[server]
http_addr = 127.0.0.1
http_port = {settings.grafana_port}

[paths]
data = {data}
logs = {data / "log"}
plugins = {data / "plugins"}
provisioning = {_folder(settings)}

[log]
mode = console

# Without it there is an admin with the password admin.
[security]
disable_initial_admin_creation = true

[auth.anonymous]
enabled = true
org_role = Viewer

[analytics]
reporting_enabled = false
check_for_updates = false
check_for_plugin_updates = false

[news]
news_feed_enabled = false
"""


def grafana_files(settings: Settings) -> dict[Path, str]:
    """grafana.ini, the data source, the folder of dashboards, and the dashboards with this deployment's runbooks."""
    folder = _folder(settings)
    datasource = {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "embedkit",
                "uid": DATASOURCE_UID,
                "type": "prometheus",
                "access": "proxy",
                "url": settings.local_url("prometheus"),
                "isDefault": True,
                # $__rate_interval is four of these
                "jsonData": {"timeInterval": f"{settings.scrape_interval_s}s", "httpMethod": "POST"},
            }
        ],
    }
    provider = {
        "apiVersion": 1,
        "providers": [
            {
                "name": "embedkit",
                "folder": "embedkit",
                "type": "file",
                "allowUiUpdates": False,
                "options": {"path": str(folder / "boards")},
            }
        ],
    }
    runbooks = f"{settings.local_url('prometheus')}/user"
    boards = {
        folder / "boards" / file.name: file.read_text(encoding="utf-8").replace(RUNBOOKS_URL, runbooks)
        for file in DASHBOARDS.glob("*.json")
    }
    return {
        grafana_file(settings): _ini(settings),
        folder / "datasources" / "embedkit.yaml": HEADER + yaml.safe_dump(datasource, sort_keys=False),
        folder / "dashboards" / "embedkit.yaml": HEADER + yaml.safe_dump(provider, sort_keys=False),
        **boards,
    }


def home_of(binary: Path) -> Path:
    """Grafana's folder with public/ and conf/: where distributions, nix and conda put it for a binary in bin/.

    Raises:
        OpsError: it is in none of these places.
    """
    places = [
        *(root / "share" / "grafana" for root in (binary.parent.parent, binary.resolve().parent.parent)),
        binary.resolve().parent.parent,  # an unpacked archive
    ]
    for place in places:
        if (place / "conf" / "defaults.ini").is_file():
            return place
    tried = ", ".join(str(place) for place in dict.fromkeys(places))
    raise OpsError(f"{binary} has no conf/defaults.ini in {tried}: mend its installation, or set EMBEDKIT_GRAFANA=off")


def grafana_command(binary: str, settings: Settings) -> tuple[str, ...]:
    """
    Raises:
        OpsError: see home_of.
    """
    server = () if Path(binary).name == "grafana-server" else ("server",)
    return (binary, *server, f"--homepath={home_of(Path(binary))}", f"--config={grafana_file(settings)}")
