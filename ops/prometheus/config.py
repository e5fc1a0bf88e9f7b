"""Configuration and command lines of the Prometheus and the Alertmanager that supervisord runs."""

from pathlib import Path
from typing import Any

import yaml

from ops.prometheus.rules import FOLDER as RULES
from ops.settings import ROOT, Settings

HEADER = "# Rendered by `embedkit up` from ops/prometheus/config.py: change embedkit.toml, not this.\n"
JOB = "embedkit"  # the rules ask for it by name
GATEWAY_JOB = "embedkit-gateway"  # HAProxy's own
RUNBOOKS = ROOT / "ops" / "runbooks"


def prometheus_file(settings: Settings) -> Path:
    return settings.etc / "prometheus.yml"


def alertmanager_file(settings: Settings) -> Path:
    return settings.etc / "alertmanager.yml"


def _yaml(content: dict[str, Any]) -> str:
    return HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def scrape_config(target: str, job: str = JOB) -> dict[str, Any]:
    """What any Prometheus needs to have these metrics."""
    return {"job_name": job, "static_configs": [{"targets": [target]}]}


def prometheus_files(settings: Settings, *, alerting: bool, gateway: bool = False) -> dict[Path, str]:
    """prometheus.yml, and copies of the rules beside it, so that a running Prometheus is not changed by a checkout.

    Args:
        settings: ports and intervals.
        alerting: whether an Alertmanager runs here too.
        gateway: whether the gateway does.
    """
    scraped = [scrape_config(f"127.0.0.1:{settings.exporter_port}")]
    if gateway:
        scraped.append(scrape_config(f"127.0.0.1:{settings.gateway_metrics_port}", GATEWAY_JOB))
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": f"{settings.scrape_interval_s}s",
            "scrape_timeout": f"{min(settings.scrape_interval_s, 10)}s",
            "evaluation_interval": f"{settings.scrape_interval_s}s",
        },
        "rule_files": ["rules/*.yml"],
        "scrape_configs": scraped,
    }
    if alerting:
        targets = [f"127.0.0.1:{settings.alertmanager_port}"]
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": targets}]}]}
    copies = {settings.etc / "rules" / file.name: file.read_text(encoding="utf-8") for file in RULES.glob("*.yml")}
    return {prometheus_file(settings): _yaml(config), **copies}


def prometheus_command(binary: str, settings: Settings) -> tuple[str, ...]:
    return (
        binary,
        f"--config.file={prometheus_file(settings)}",
        f"--storage.tsdb.path={settings.var / 'prometheus'}",
        f"--storage.tsdb.retention.time={settings.metrics_days}d",
        f"--storage.tsdb.retention.size={settings.metrics_gb}GB",
        f"--web.listen-address=127.0.0.1:{settings.prometheus_port}",
        # Else its links carry the machine's name, which loopback does not answer to.
        f"--web.external-url={settings.local_url('prometheus')}",
        f"--web.user-assets={RUNBOOKS}",
    )


def alertmanager_files(settings: Settings) -> dict[Path, str]:
    """alertmanager.yml: one message a model and alert, to the webhook where there is one."""
    receiver: dict[str, Any] = {"name": "page only"}
    if settings.alert_webhook:
        receiver = {"name": "webhook", "webhook_configs": [{"url": settings.alert_webhook, "send_resolved": True}]}
    same_place = ["instance"]
    config = {
        "route": {
            "receiver": receiver["name"],
            "group_by": ["alertname", "instance", "model"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "4h",
        },
        "inhibit_rules": [
            {  # one cause, one message
                "source_matchers": ["alertname = TorchServeDown"],
                "target_matchers": ["alertname =~ NoReadyWorker|CanaryFailing|GatewayCanaryFailing"],
                "equal": same_place,
            },
            {
                "source_matchers": ["alertname = TorchServeDown"],
                "target_matchers": ["alertname = SourceDown", "source =~ management|torchserve_metrics"],
                "equal": same_place,
            },
            {
                "source_matchers": ["alertname = GatewayDown"],
                "target_matchers": ["alertname = SourceDown", "source =~ gateway|door"],
                "equal": same_place,
            },
            {
                "source_matchers": ["alertname = GatewayDown"],
                "target_matchers": ["alertname = GatewayCanaryFailing"],
                "equal": same_place,
            },
            {
                "source_matchers": ["alertname = CanaryFailing"],
                "target_matchers": ["alertname = GatewayCanaryFailing"],
                "equal": ["instance", "model"],
            },
            {
                "source_matchers": ["alertname = NoReadyWorker"],
                "target_matchers": ["alertname = WorkersMissing"],
                "equal": ["instance", "model"],
            },
            {
                "source_matchers": ["severity = critical"],
                "target_matchers": ["severity = warning"],
                "equal": ["alertname", "instance", "model"],
            },
        ],
        "receivers": [receiver],
    }
    return {alertmanager_file(settings): _yaml(config)}


def alertmanager_command(binary: str, settings: Settings) -> tuple[str, ...]:
    return (
        binary,
        f"--config.file={alertmanager_file(settings)}",
        f"--storage.path={settings.var / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{settings.alertmanager_port}",
        f"--web.external-url={settings.local_url('alertmanager')}",
        "--cluster.listen-address=",  # else it also listens on 9094, for peers that it does not have
    )
