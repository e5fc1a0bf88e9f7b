"""The first stage in haproxy.cfg, which clients meet: who it is, whether that one may, and which model it is about."""

from collections.abc import Sequence

from handlers.canary import HEADER as CANARY_HEADER
from ops.canary import AtGateway
from ops.gateway.keys import OPEN, keys_file
from ops.gateway.rate_limit import rate_limit
from ops.gateway.replies import ASKED, as_json, error, path_word, quoted, reply
from ops.gateway.stage import CAME_TO, FULL, OVERLOADED, Route, whole_bytes
from ops.settings import Settings, bracketed

HEADER_BYTES = 16 << 10
# Every connection's buffer has room for a whole body, and takes memory as it fills: what may fill it is counted
# (docs/gateway.md). HAProxy's own limit, tune.buffers.limit, drops connections where it is reached.
LARGE_BODY = 64 << 10
LARGE_ANSWER = 256 << 10
DOOR = "/door"  # 204 to whom the gateway lets in
CANARY = "_canary"  # what no key in the file can be called

LOG = (
    '{"ts":%Ts.%ms,"id":"%[var(txn.id)]","client":"%ci","key":"%[var(txn.key)]","model":"%[var(txn.model)]",'
    '"method":"%HM","path":"%[var(txn.path),json(utf8s)]","status":%ST,"ms":%Ta,"retries":%rc,"bytes":%B,"end":"%ts"}'
)
# What is passed on is marked, so that it is counted from this log and not from TorchServe's as well.
MARKED = ',"marked":true}'

# HAProxy reads each in single quotes.
_UNESCAPED = r'req.body,regsub(\\\\/,/,g),regsub("\\\\(u[^0]|u0[^0])","\\\\\\\\\\1",g),json_query($.model)'
_LAST = r"req.body,regsub(\"model\",\"\"),json_query($.model)"
_NO_TEXT = r"""'"model"[[:space:]]*:[[:space:]]*[-0-9tf[{]'"""


def door(settings: Settings, routes: Sequence[Route], own: AtGateway | None) -> str:
    log = LOG.removesuffix("}") + MARKED if own else LOG
    tls = f" ssl crt {quoted(path_word(settings.gateway_tls))} alpn http/1.1" if settings.gateway_tls else ""
    return f"""
frontend gateway
    bind {bracketed(settings.gateway_host)}:{settings.gateway_port} proto h1{tls}
    maxconn {settings.gateway_connections}
    log-format {quoted(log)}
    # what each key did, by its name; the exporter reads it
    stick-table type string len 64 size 10k expire 7d store gpt(2),http_req_cnt,http_err_cnt,http_fail_cnt

    http-request set-var(txn.path) path,bytes(0,200)
    http-request set-var(txn.id) req.fhdr(X-Request-Id)
    http-request set-var(txn.id) uuid() unless {{ var(txn.id) -m reg ^[A-Za-z0-9._-]{{1,128}}$ }}
    http-request set-header X-Request-Id %[var(txn.id)]
    http-after-response del-header Server
    http-after-response set-header X-Request-Id %[var(txn.id)] if {{ var(txn.id) -m found }}
    http-request deny {error(431, "headers_too_large", f"The headers are over {HEADER_BYTES} bytes.")} \
if {{ req.hdrs,length gt {HEADER_BYTES} }}

    # what has the place of a large body keeps it for its answer
    acl large_answer res.hdr_val(Content-Length) gt {LARGE_ANSWER}
    http-response return {_crowded(settings, "answer")} !{{ sc2_tracked }}
    http-response track-sc2 str(answer) table large if large_answer

    acl health path /healthz
    acl reading method GET HEAD
{_keys(settings, own)}
{_models(settings, routes, own)}
    use_backend healthz if health
    default_backend served

# how many requests there are with a large body, and how many with a large answer
backend large
    stick-table type string len 8 size 2 store conn_cur
"""


def _keys(settings: Settings, own: AtGateway | None) -> str:
    """Who it is, and whether that one may: the file of keys decides, not this configuration."""
    known = f'map("{path_word(keys_file(settings))}")'
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
        f"http-request deny {_only('GET, HEAD')} if door !reading",
        "http-request return status 204 if door",
        "http-request del-header Authorization",
        # the mark of the kit's own requests, which no client's carries on
        f"http-request del-header {CANARY_HEADER}",
        *([f"http-request set-header {CANARY_HEADER} {own.token} if canary"] if own else []),
        "http-request del-header Upgrade",
        f"http-request track-sc0 var(txn.key) unless health || {{ var(txn.key) -m str {CANARY} }}",
        *rate_limit(settings),
    ]
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
    listed = [{"id": one.model, "object": "model", "created": one.created, "owned_by": "embedkit"} for one in routes]
    there = f"Model {ASKED} is not served here; served: {', '.join(one.model for one in routes) or 'none'}."
    missing = error(404, "model_not_found", there, param="model")
    lines = [
        "acl list path /v1/models",
        "acl openai path /v1/embeddings",
        # whatever stands there names a model: `BAAI/bge-m3`, `bge-m3:latest`
        "acl named path_reg ^/v1/models/.",
        "acl openai_path path_reg ^/v1/models/.+/embeddings$",
        "acl native path_reg ^/predictions/[^/]+(/[A-Za-z0-9_][A-Za-z0-9_.]*(/v1/embeddings)?)?$",
        "acl native_list path_reg ^/predictions/[^/]+/[A-Za-z0-9_][A-Za-z0-9_.]*/v1/models$",
        f"acl known {f'var(txn.name) -m str {names}' if routes else 'always_false'}",
        f"http-request deny {error(404, 'unknown_path', 'This path is not served.')} "
        "unless health || list || openai || named || native || native_list",
        # `asked` is what the client wrote, `name` what is looked for, `model` one that is served
        "http-request set-var(txn.asked) path,bytes(11),url_dec if named",
        "http-request set-var(txn.asked) path,bytes(11),regsub(/embeddings$,),url_dec if openai_path",
        "http-request set-var(txn.asked) path,field(3,/) if native || native_list",
        "http-request set-var(txn.name) var(txn.asked) if named || native || native_list",
        f"http-request deny {missing} if !known named || !known native || !known native_list",
        "http-request set-var(txn.model) var(txn.name) if known",
        f"http-request deny {_only('GET, HEAD')} "
        "if !reading health || !reading list || !reading named !openai_path || !reading native_list",
        f"http-request deny {_only('POST')} if !METH_POST openai || !METH_POST openai_path || !METH_POST native",
        f"http-request return {reply(200, as_json({'object': 'list', 'data': listed}))} if list",
        *(
            f"http-request return {reply(200, as_json(entry))} if named !openai_path "
            f"{{ var(txn.name) -m str {entry['id']} }}"
            for entry in listed
        ),
        *_whole_body(settings),
        *_by_body(settings, routes),
        f"http-request deny {missing} if openai !known",
        "http-request set-var(txn.model) var(txn.name) if openai",
        f"http-request set-header {CAME_TO} %[nbsrv(torchserve)]",
        # nothing of the client's own spelling goes on: no query, no host, no odd path
        f"http-request set-header Host {settings.inference_url().removeprefix('http://')}",
        f"http-request set-uri /predictions/%[var(txn.model)]{marked} if openai || openai_path",
        f"http-request set-uri %[path]{marked} if native || native_list",
        # The second stage refuses what is whole in memory. It would close under a body that still comes, and a client
        # that is sending one learns the reason from here alone.
        *(
            f"http-request deny {FULL} if {{ var(txn.model) -m str {one.model} }} "
            f"{{ req.body_size gt {whole_bytes(settings)} }} "
            f"{{ srv_conn_free(model-{one.model}-large/torchserve) le 0 }} {{ nbsrv(torchserve) gt 0 }}"
            for one in routes
        ),
    ]
    return "".join(f"    {line}\n" for line in lines)


def _only(method: str) -> str:
    return error(405, "method_not_allowed", f"This path takes {method}.", headers={"Allow": method})


def _whole_body(settings: Settings) -> list[str]:
    """Wait for the body, as far as it is to be whole in memory; what is large needs a place there.

    One in chunks that is more by then is refused: how long it will be nobody can tell.
    """
    most = min(whole_bytes(settings), settings.gateway_body_mb << 20)
    said = f"A body without a length may have {most >> 10} KiB: send it with Content-Length, or fewer texts a request."
    return [
        # HAProxy counts the time from the first wait on
        f"http-request wait-for-body time {settings.gateway_body_s}s at-least {LARGE_BODY + 1}",
        f"acl large_body req.body_size gt {LARGE_BODY}",
        f"http-request deny {_crowded(settings, 'body')}",
        "http-request track-sc2 str(body) table large if large_body",
        f"http-request wait-for-body time {settings.gateway_body_s}s",
        f"http-request deny {error(413, 'body_too_large', said)} "
        f"if {{ req.hdr(Transfer-Encoding) -m found }} {{ req.body_len gt {most} }}",
    ]


def _crowded(settings: Settings, part: str) -> str:
    """The refusal of a request whose body or answer is large while others have all places for such."""
    most = settings.gateway_large
    full = error(
        503, "overloaded", f"{most} requests with a large {part} are under way; try again.", headers=OVERLOADED
    )
    return f"{full} if large_{part} {{ str({part}),table_conn_cur(large) ge {most} }}"


def _by_body(settings: Settings, routes: Sequence[Route]) -> list[str]:
    """The model of /v1/embeddings: the only one, or what the body names; the handler compares it in either case."""
    if len(routes) == 1:
        return [f"http-request set-var(txn.name) str({routes[0].model}) if openai"]
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
    kind = error(400, "invalid_type", "'model' is no text; a name is expected.", param="model")
    absent = "openai !{ var(txn.asked) -m found }"
    return [
        "http-request set-var(txn.asked) req.body,json_query('$.model') if openai",
        # HAProxy cannot undo `\/`, as PHP writes a slash, nor `\u` beyond one byte, which no served name has
        f"http-request set-var(txn.asked) '{_UNESCAPED}' if {absent}",
        # of two the last one counts, as in the handler
        f"http-request set-var(txn.asked) '{_LAST}' if openai",
        "http-request set-var(txn.name) var(txn.asked),field(1,/) if openai",
        f"http-request deny {kind} if openai !known {{ req.body -m reg {_NO_TEXT} }}",
        f"http-request deny {large} if {absent} {{ req.body_size gt {settings.gateway_route_kb << 10} }}",
        f"http-request deny {missing} if {absent}",
    ]
