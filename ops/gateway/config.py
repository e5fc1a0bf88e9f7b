"""Render haproxy.cfg. Pure text (docs/gateway.md says why it has two stages).

public ─▶ keys, limits, model ─▶ `served`: tries again what TorchServe lost ─▶ stage ─▶ `model-…`: waits for TorchServe
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError
from ops.gateway.keys import ANONYMOUS, keys_file
from ops.gateway.replies import ASKED, as_json, error, quoted, reply
from ops.settings import Settings

# Bodies up to this are whole in memory before they go on, and can be sent again to a TorchServe that was restarted.
BUFFER_BYTES = 64 << 10
# The buffer holds the headers too, and HAProxy's own notes.
HEADER_BYTES = 16 << 10
RATE_WINDOW_S = 10
LOST_TWICE = 3  # a request that was lost so often may be what ends the server

OVERLOADED = {"Retry-After": "1"}
AWAY = {"Retry-After": "5"}


@dataclass(frozen=True)
class Route:
    """A served model. `queue_size` is TorchServe's: requests that may wait there."""

    model: str
    queue_size: int
    response_timeout_s: int


def haproxy_file(settings: Settings) -> Path:
    return settings.etc / "haproxy.cfg"


def path_word(path: Path) -> str:
    """A path for HAProxy's configuration.

    Raises:
        OpsError: it has a character that means something there.
    """
    text = str(path)
    if any(char in text for char in "'\"\\,()\n"):
        raise OpsError(f"{text!r}: HAProxy cannot take a path with quotes, commas, brackets or backslashes: move it")
    return text


def _errors() -> str:
    """What HAProxy says when it has to answer by itself."""
    away = error(503, "unavailable", "The server is restarting or away, and was not back in time.", headers=AWAY)
    lost = error(502, "connection_lost", "The server ended while it had this request; try again.")
    late = error(504, "timeout", "The server did not answer in time.")
    slow = error(408, "request_timeout", "The request did not arrive in time.")
    bad = error(400, "bad_request", "This is no HTTP request that can be read.")
    broken = error(500, "internal_error", "The gateway failed to handle this request.")
    return "".join(f"    http-error {one}\n" for one in (bad, slow, broken, lost, away, late))


def _global(settings: Settings, routes: Sequence[Route]) -> str:
    size = BUFFER_BYTES if len(routes) < 2 else max(BUFFER_BYTES, settings.gateway_route_kb << 10)
    most_s = _longest_s(settings, routes)
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
    tune.bufsize {size + 2 * HEADER_BYTES}
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


def _longest_s(settings: Settings, routes: Sequence[Route]) -> int:
    return LOST_TWICE * (settings.gateway_wait_s + max((one.response_timeout_s for one in routes), default=0)) + 10


LOG = (
    '{"ts":%Ts.%ms,"id":"%[var(txn.id)]","client":"%ci","key":"%[var(txn.key)]","model":"%[var(txn.model)]",'
    '"method":"%HM","path":"%[var(txn.path),json(utf8s)]","status":%ST,"ms":%Ta,"retries":%rc,"bytes":%B,"end":"%ts"}'
)


def _public(settings: Settings, routes: Sequence[Route], *, keyed: bool) -> str:
    host = f"[{settings.gateway_host}]" if ":" in settings.gateway_host else settings.gateway_host
    tls = f" ssl crt {quoted(path_word(settings.gateway_tls))} alpn http/1.1" if settings.gateway_tls else ""
    return f"""
frontend gateway
    bind {host}:{settings.gateway_port} proto h1{tls}
    maxconn {settings.gateway_connections}
    log-format {quoted(LOG)}
    # what each key did, by its name; the exporter reads it
    stick-table type string len 64 size 10k expire 7d store gpc0_rate({RATE_WINDOW_S}s),http_req_cnt,http_err_cnt,\
http_fail_cnt

    http-request set-var(txn.path) path,bytes(0,200)
    http-request set-var(txn.id) req.hdr(X-Request-Id) if {{ req.hdr(X-Request-Id) -m reg ^[A-Za-z0-9._-]{{1,128}}$ }}
    http-request set-var(txn.id) uuid() unless {{ var(txn.id) -m found }}
    http-request set-header X-Request-Id %[var(txn.id)]
    http-after-response set-header X-Request-Id %[var(txn.id)] if {{ var(txn.id) -m found }}
    http-request deny {error(431, "headers_too_large", f"The headers are over {HEADER_BYTES} bytes.")} \
if {{ req.hdrs,length gt {HEADER_BYTES} }}

    acl health path /healthz
    acl reading method GET HEAD
    acl writing method POST PUT
{_keys(settings, keyed=keyed)}
{_models(settings, routes)}
    use_backend healthz if health
    default_backend served
"""


def _keys(settings: Settings, *, keyed: bool) -> str:
    """Who it is, and whether that one may."""
    if keyed:
        file = path_word(keys_file(settings))
        known = f"http-request set-var(txn.key) 'http_auth_bearer,sha2(256),hex,map({file})' unless health"
    else:
        known = f"http-request set-var(txn.key) str({ANONYMOUS}) unless health"
    refused = error(
        401,
        "invalid_api_key",
        "A valid API key is needed, as the header Authorization: Bearer <key>.",
        headers={"WWW-Authenticate": "Bearer"},
    )
    lines = [
        known,
        f"http-request deny {refused} if !health !{{ var(txn.key) -m found }}",
        "http-request del-header Authorization",
        # the mark of the kit's own requests, which no client's carries on
        "http-request del-header X-Embedkit-Canary",
        "http-request del-header Upgrade",
        "http-request track-sc0 var(txn.key) unless health",
    ]
    if settings.gateway_key_rate:
        often = error(
            429,
            "rate_limit_exceeded",
            f"This key may send {settings.gateway_key_rate} requests a second.",
            headers={"Retry-After": "1"},
        )
        limit = settings.gateway_key_rate * RATE_WINDOW_S
        lines.append(f"http-request deny {often} if !health {{ sc0_gpc0_rate ge {limit} }}")
    lines.append("http-request sc-inc-gpc0(0) unless health")
    body = error(413, "body_too_large", f"The body is over {settings.gateway_body_mb} MiB.")
    lines.append(f"http-request deny {body} if {{ req.body_size gt {settings.gateway_body_mb << 20} }}")
    return "".join(f"    {line}\n" for line in lines)


def _models(settings: Settings, routes: Sequence[Route]) -> str:
    """Which model it is, and which answers need none."""
    names = " ".join(one.model for one in routes)
    listed = [{"id": one.model, "object": "model", "created": 0, "owned_by": "embedkit"} for one in routes]
    lines = [
        "acl list path /v1/models",
        "acl one path_reg ^/v1/models/[A-Za-z0-9_]+$",
        "acl openai path /v1/embeddings",
        "acl openai_path path_reg ^/v1/models/[A-Za-z0-9_]+/embeddings$",
        "acl native path_reg ^/predictions/[A-Za-z0-9_]+(/[A-Za-z0-9_][A-Za-z0-9_.]*(/v1/embeddings)?)?$",
        "acl native_list path_reg ^/predictions/[A-Za-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.]*/v1/models$",
        f"http-request deny {error(404, 'unknown_path', 'This path is not served.')} "
        "unless health || list || one || openai || openai_path || native || native_list",
        f"http-request deny {_only('GET')} if health !reading || list !reading || one !reading || native_list !reading",
        f"http-request deny {_only('POST')} if openai !writing || openai_path !writing || native !writing",
        f"http-request return {reply(200, as_json({'object': 'list', 'data': listed}))} if list",
        "http-request set-var(txn.asked) path,field(4,/) if one || openai_path",
        "http-request set-var(txn.asked) path,field(3,/) if native || native_list",
        *_by_body(settings, routes),
    ]
    there = f"Model {ASKED} is not served here; served: {', '.join(one.model for one in routes) or 'none'}."
    missing = error(404, "model_not_found", there, param="model")
    known = f" !{{ var(txn.asked) -m str {names} }}" if routes else ""
    lines.append(f"http-request deny {missing} if !health{known}")
    lines.append("http-request set-var(txn.model) var(txn.asked) unless health")
    lines += [
        f"http-request return {reply(200, as_json(entry))} if one {{ var(txn.model) -m str {entry['id']} }}"
        for entry in listed
    ]
    lines += [
        # nothing of the client's own spelling goes on: no query, no host, no odd path
        "http-request set-uri /predictions/%[var(txn.model)] if openai || openai_path",
        "http-request set-uri %[path] if native || native_list",
        f"http-request wait-for-body time {settings.gateway_header_s}s if writing",
    ]
    return "".join(f"    {line}\n" for line in lines)


def _only(method: str) -> str:
    return error(405, "method_not_allowed", f"This path takes {method}.", headers={"Allow": method})


def _by_body(settings: Settings, routes: Sequence[Route]) -> list[str]:
    """The model of /v1/embeddings: the only one, or what the body names; the handler compares it in either case."""
    if len(routes) == 1:
        return [f"http-request set-var(txn.asked) str({routes[0].model}) if openai"]
    other = "POST to /v1/models/<model>/embeddings instead, where the path names it"
    large = error(
        413,
        "body_too_large",
        f"Several models are served, and in a body over {settings.gateway_route_kb} KiB 'model' is not looked for: "
        f"{other}.",
        param="model",
    )
    missing = error(
        400,
        "missing_model",
        f"Several models are served, and 'model' is not found in this body, which has to be plain JSON: {other}.",
        param="model",
    )
    unknown = "openai !{ var(txn.asked) -m found }"
    return [
        f"http-request wait-for-body time {settings.gateway_header_s}s if openai",
        "http-request set-var(txn.asked) req.body,json_query('$.model'),field(1,/) if openai",
        f"http-request deny {large} if {unknown} {{ req.body_size gt {settings.gateway_route_kb << 10} }}",
        f"http-request deny {missing} if {unknown}",
    ]


def _served(settings: Settings, routes: Sequence[Route]) -> str:
    """The second stage: one backend a model, which waits for a TorchServe that is away."""
    stage = f"abns@embedkit-gateway-{settings.gateway_port}"
    models = "".join(_model(settings, one) for one in routes)
    host = settings.inference_url().removeprefix("http://")
    return f"""
backend served
    # A request is sent again where TorchServe ended under it: an embedding has no effect that could happen twice.
    # Each comes to the next stage as the first of a connection: HAProxy drops later ones without an answer.
    option http-server-close
    retry-on conn-failure empty-response 502
    retries {LOST_TWICE}
    server stage {stage}

frontend stage
    bind {stage} proto h1
    no log
    maxconn {settings.gateway_connections}
    timeout client {_longest_s(settings, routes)}s
    use_backend model-%[path,field(3,/)]
{models}
# Whether TorchServe is there: without it, waiting is no overload.
backend torchserve
    option tcp-check
    server torchserve {host} check inter 1s fall 1 rise 1
"""


def _model(settings: Settings, route: Route) -> str:
    full = error(503, "overloaded", "The server is busy; try again.", headers=OVERLOADED)
    own = {
        400: error(400, "bad_request", "TorchServe cannot read this request."),
        404: error(404, "model_not_found", f"TorchServe does not have this version of {route.model}.", param="model"),
        405: error(405, "method_not_allowed", "TorchServe does not take this method here."),
        413: error(413, "body_too_large", "The body is over what TorchServe takes."),
        500: error(500, "internal_error", "The worker did not answer; the server's log says why."),
        503: full,
        507: error(503, "out_of_memory", "The device has no room; try again later.", headers=OVERLOADED),
    }
    replies = "".join(
        f"    http-response return {answer} if {{ status {status} }} !handler\n" for status, answer in own.items()
    )
    host = settings.inference_url().removeprefix("http://")
    return f"""
backend model-{route.model}
    http-reuse always
    # HAProxy waits a second before each
    retry-on conn-failure
    retries {settings.gateway_wait_s}
    timeout server {settings.gateway_wait_s + route.response_timeout_s}s
    http-request deny {full} if {{ queue gt 0 }} {{ nbsrv(torchserve) gt 0 }}
    # an answer of the handler says what made it; TorchServe's own are put into our form
    acl handler res.hdr(X-Embedkit-Fingerprint) -m found
{replies}    server torchserve {host} maxconn {route.queue_size}
"""


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


def haproxy_config(settings: Settings, routes: Sequence[Route], keys: Mapping[str, str] | None) -> str:
    """haproxy.cfg.

    Args:
        settings: addresses and limits.
        routes: the served models.
        keys: name → digest; None: nobody needs one.

    Raises:
        OpsError: a path cannot be written there.
    """
    return (
        _global(settings, routes)
        + _public(settings, routes, keyed=keys is not None)
        + _served(settings, routes)
        + _others(settings)
    )
