"""Render haproxy.cfg. Pure text (docs/gateway.md says why it has two stages).

door: keys, limits, model ─▶ `served`: sends again what TorchServe lost ─▶ stage ─▶ `model-…`: waits for TorchServe
"""

from collections.abc import Sequence
from pathlib import Path

from ops.canary import AtGateway
from ops.gateway.door import HEADER_BYTES, door
from ops.gateway.replies import as_json, error, reply
from ops.gateway.stage import Route, longest_s, stage, whole_bytes
from ops.settings import Settings

AWAY = {"Retry-After": "5"}


def haproxy_file(settings: Settings) -> Path:
    return settings.etc / "haproxy.cfg"


def _errors() -> str:
    """What HAProxy says when it has to answer by itself."""
    away = error(503, "unavailable", "The server is restarting or away, and was not back in time.", headers=AWAY)
    lost = error(502, "connection_lost", "The server ended while it had this request; try again.")
    late = error(504, "timeout", "The server did not answer in time.")
    slow = error(408, "request_timeout", "The request did not arrive in time.")
    # what is no HTTP gets HAProxy's own page; this is for whoever cannot be told from a client that went away
    closed = error(
        400,
        "bad_request",
        "This connection's sending side was closed before the answer: keep it open until that is here.",
    )
    broken = error(500, "internal_error", "The gateway failed to handle this request.")
    return "".join(f"    http-error {one}\n" for one in (closed, slow, broken, lost, away, late))


def _global(settings: Settings, routes: Sequence[Route]) -> str:
    most_s = longest_s(settings, routes)
    return f"""\
# Rendered by `embedkit up` from ops/gateway/config.py: change embedkit.toml, not this.
global
    log stdout len 4096 format raw local0 info
    # each request passes two stages
    maxconn {2 * settings.gateway_connections + 100}
    # with fewer files than that allows it serves fewer connections
    no strict-limits
    nbthread 2
    hard-stop-after {most_s}s
    tune.bufsize {whole_bytes(settings) + 2 * HEADER_BYTES}
    tune.http.maxhdr 100
    ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
    mode http
    log global
    option dontlognull
    # a client's idle connection is not closed under its next request when this configuration is replaced
    option idle-close-on-response
    # who has gone away does not keep a place in the queue
    option abortonclose
    timeout connect 5s
    timeout http-request {settings.gateway_header_s}s
    timeout http-keep-alive 60s
    timeout client 30s
    timeout server {most_s}s
    timeout queue {settings.gateway_wait_s}s
    retries 0
{_errors()}"""


def _others(settings: Settings) -> str:
    unhealthy = as_json({"status": "unhealthy", "reason": "the exporter, which tries the models, does not answer"})
    return f"""
backend healthz
    http-request set-uri /healthz
    timeout connect 1s
    timeout server 3s
    timeout queue 1s
    http-error {reply(502, unhealthy)}
    http-error {reply(503, unhealthy)}
    http-error {reply(504, unhealthy)}
    server exporter 127.0.0.1:{settings.exporter_port} maxconn 8

frontend metrics
    bind 127.0.0.1:{settings.gateway_metrics_port} proto h1
    no log
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request deny {error(404, "unknown_path", "This path is not served.")}
"""


def haproxy_config(settings: Settings, routes: Sequence[Route], own: AtGateway | None = None) -> str:
    """haproxy.cfg, the same whether keys are needed or not: the file of keys says that. Without `own` it neither knows
    the canary nor marks what it passes on.

    Raises:
        OpsError: a path cannot be written there.
    """
    return _global(settings, routes) + door(settings, routes, own) + stage(settings, routes) + _others(settings)
