"""The first stage in haproxy.cfg, which clients meet: who it is, whether that one may, and which model it is about."""

from collections.abc import Sequence

from handlers.canary import HEADER as CANARY_HEADER
from ops.canary import AtGateway
from ops.gateway.keys import OPEN, keys_file
from ops.gateway.replies import ASKED, as_json, error, path_word, quoted, reply
from ops.gateway.stage import FULL, Route, whole_bytes
from ops.settings import Settings, bracketed

HEADER_BYTES = 16 << 10
DOOR = "/door"  # 204 to whom the gateway lets in
RATE_WINDOW_S = 10
CANARY = "_canary"  # what no key in the file can be called

LOG = (
    '{"ts":%Ts.%ms,"id":"%[var(txn.id)]","client":"%ci","key":"%[var(txn.key)]","model":"%[var(txn.model)]",'
    '"method":"%HM","path":"%[var(txn.path),json(utf8s)]","status":%ST,"ms":%Ta,"retries":%rc,"bytes":%B,"end":"%ts"}'
)
# What is passed on is marked, so that it is counted from this log and not from TorchServe's as well.
MARKED = ',"marked":true}'


def door(settings: Settings, routes: Sequence[Route], own: AtGateway | None) -> str:
    log = LOG.removesuffix("}") + MARKED if own else LOG
    tls = f" ssl crt {quoted(path_word(settings.gateway_tls))} alpn http/1.1" if settings.gateway_tls else ""
    return f"""
frontend gateway
    bind {bracketed(settings.gateway_host)}:{settings.gateway_port} proto h1{tls}
    maxconn {settings.gateway_connections}
    log-format {quoted(log)}
    # what each key did, by its name; the exporter reads it
    stick-table type string len 64 size 10k expire 7d store gpc0_rate({RATE_WINDOW_S}s),http_req_cnt,http_err_cnt,\
http_fail_cnt

    http-request set-var(txn.path) path,bytes(0,200)
    http-request set-var(txn.id) req.fhdr(X-Request-Id)
    http-request set-var(txn.id) uuid() unless {{ var(txn.id) -m reg ^[A-Za-z0-9._-]{{1,128}}$ }}
    http-request set-header X-Request-Id %[var(txn.id)]
    http-after-response del-header Server
    http-after-response set-header X-Request-Id %[var(txn.id)] if {{ var(txn.id) -m found }}
    http-request deny {error(431, "headers_too_large", f"The headers are over {HEADER_BYTES} bytes.")} \
if {{ req.hdrs,length gt {HEADER_BYTES} }}

    acl health path /healthz
    acl reading method GET HEAD
    acl writing method POST PUT
{_keys(settings, own)}
{_models(settings, routes, own)}
    use_backend healthz if health
    default_backend served
"""


def _keys(settings: Settings, own: AtGateway | None) -> str:
    """Who it is, and whether that one may: the file of keys decides, not this configuration."""
    known = f"map({path_word(keys_file(settings))})"
    refused = error(
        401,
        "invalid_api_key",
        "A valid API key is needed, as the header Authorization: Bearer <key>.",
        headers={"WWW-Authenticate": "Bearer"},
    )
    lines = [
        f"http-request set-var(txn.key) 'str({OPEN}),{known}' unless health",
        f"http-request set-var(txn.key) 'http_auth_bearer,sha2(256),hex,{known}' unless health",
        *_canary(own),
        f"acl door path {DOOR}",
        # the kit's own asking, which is nobody's request: neither logged nor counted to a key
        "http-request set-log-level silent if door !{ req.hdr(Authorization) -m found }",
        f"http-request deny {refused} if !health !{{ var(txn.key) -m found }}",
        "http-request return status 204 if door",
        "http-request del-header Authorization",
        # the mark of the kit's own requests, which no client's carries on
        f"http-request del-header {CANARY_HEADER}",
        *([f"http-request set-header {CANARY_HEADER} {own.token} if canary"] if own else []),
        "http-request del-header Upgrade",
        f"http-request track-sc0 var(txn.key) unless health || {{ var(txn.key) -m str {CANARY} }}",
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


def _canary(own: AtGateway | None) -> list[str]:
    """The canary's key, which is no entry of the file: it closes nothing, no limit holds for it, and the log, which
    counts users' requests, is silent about it."""
    if own is None:
        return []
    return [
        f"http-request set-var(txn.key) str({CANARY}) if {{ http_auth_bearer,sha2(256),hex -m str {own.key_digest} }}",
        f"acl canary var(txn.key) -m str {CANARY}",
        "http-request set-log-level silent if canary",
    ]


def _models(settings: Settings, routes: Sequence[Route], own: AtGateway | None) -> str:
    """Which model it is, and which answers need none."""
    marked = f"?{own.query}" if own else ""
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
        f"http-request wait-for-body time {settings.gateway_header_s}s",
        _whole_chunks(settings, routes),
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
        f"http-request set-header Host {settings.inference_url().removeprefix('http://')}",
        f"http-request set-uri /predictions/%[var(txn.model)]{marked} if openai || openai_path",
        f"http-request set-uri %[path]{marked} if native || native_list",
        # The second stage refuses what is whole in memory. It would close under a body that still comes, and a client
        # that is sending one learns the reason from here alone.
        *(
            f"http-request deny {FULL} if {{ var(txn.model) -m str {one.model} }} "
            f"{{ req.body_size gt {whole_bytes(settings, routes)} }} "
            f"{{ srv_conn_free(model-{one.model}-large/torchserve) le 0 }} {{ nbsrv(torchserve) gt 0 }}"
            for one in routes
        ),
    ]
    return "".join(f"    {line}\n" for line in lines)


def _only(method: str) -> str:
    return error(405, "method_not_allowed", f"This path takes {method}.", headers={"Allow": method})


def _whole_chunks(settings: Settings, routes: Sequence[Route]) -> str:
    """Refuse a body in chunks that is more than is whole in memory by now: how long it will be nobody can tell."""
    most = min(whole_bytes(settings, routes), settings.gateway_body_mb << 20)
    said = f"A body without a length may have {most >> 10} KiB: send it with Content-Length, not in chunks."
    return (
        f"http-request deny {error(413, 'body_too_large', said)} "
        f"if {{ req.hdr(Transfer-Encoding) -m found }} {{ req.body_len gt {most} }}"
    )


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
        "http-request set-var(txn.asked) req.body,json_query('$.model'),field(1,/) if openai",
        f"http-request deny {large} if {unknown} {{ req.body_size gt {settings.gateway_route_kb << 10} }}",
        f"http-request deny {missing} if {unknown}",
    ]
