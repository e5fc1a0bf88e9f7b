"""The second stage in haproxy.cfg: it waits for a TorchServe that is away, and sends again what that one lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from ops.gateway.replies import error
from ops.settings import Settings

MOST_RESENDS = 3  # a request that was lost more often may be what ends the server
CAME_TO = "X-Embedkit-Servers"  # between the stages: 0 with a request that found TorchServe away, and may wait
OVERLOADED = {"Retry-After": "1"}
FULL = error(503, "overloaded", "The server is busy; try again.", headers=OVERLOADED)


@dataclass(frozen=True)
class Route:
    """A served model. `queue_size` is TorchServe's: requests that may wait there; `created`: its archive, in Unix
    seconds."""

    model: str
    queue_size: int
    response_timeout_s: int
    created: int = 0

    @property
    def large_places(self) -> int:
        """Those for bodies that go on while they still come: a client that sends one slowly keeps its place."""
        return max(1, self.queue_size // 4)

    @property
    def places(self) -> int:
        """Those for requests that are whole in memory."""
        return max(1, self.queue_size - self.large_places)


def whole_bytes(settings: Settings) -> int:
    """The largest body that is whole in memory before it goes on, so that it can be looked into for the model's name,
    be without a length, and be sent again to a TorchServe that was restarted."""
    return max(1 << 20, settings.gateway_route_kb << 10)


def under_way(routes: Sequence[Route]) -> int:
    """Requests of which the first stage keeps a copy at once: all that have places, and some that are refused."""
    return sum(one.places + one.large_places for one in routes) + 64


def longest_s(settings: Settings, routes: Sequence[Route]) -> int:
    """How long a request may be on its way through the second stage, in seconds."""
    return MOST_RESENDS * (settings.gateway_wait_s + max((one.response_timeout_s for one in routes), default=0)) + 10


def stage(settings: Settings, routes: Sequence[Route]) -> str:
    """The second stage: backends that wait for a TorchServe that is away, two a model: bodies that still come have
    places of their own, so that those who send slowly take them from each other alone."""
    address = f"abns@embedkit-gateway-{settings.gateway_port}"
    host = settings.inference_url().removeprefix("http://")
    models = "".join(
        _model(settings, one, host, name=f"model-{one.model}{part}", places=places)
        for one in routes
        for part, places in (("", one.places), ("-large", one.large_places))
    )
    return f"""
backend served
    # A request is sent again where TorchServe ended under it: an embedding has no effect that could happen twice.
    # Each comes to the next stage as the first of a connection: HAProxy drops later ones without an answer.
    option http-server-close
    retry-on conn-failure empty-response 502
    retries {MOST_RESENDS}
    # For each HAProxy keeps a copy of its whole buffer: while TorchServe is away the others wait here, without one.
    # Who reads a large answer slowly has no copy any more, and takes no place from those that have.
    server stage {address} maxconn {under_way(routes) + 2 * settings.gateway_large}

frontend stage
    bind {address} proto h1
    no log
    maxconn {settings.gateway_connections}
    timeout client {longest_s(settings, routes)}s
    use_backend model-%[path,field(3,/)]-large if {{ req.hdr_val(Content-Length) gt {whole_bytes(settings)} }}
    use_backend model-%[path,field(3,/)]
{models}
# Whether TorchServe is there: without it, waiting is no overload.
backend torchserve
    option tcp-check
    server torchserve {host} check inter 1s fall 1 rise 1
"""


def _model(settings: Settings, route: Route, host: str, *, name: str, places: int) -> str:
    own = {
        400: error(400, "bad_request", "TorchServe cannot read this request."),
        404: error(404, "model_not_found", f"TorchServe does not have this version of {route.model}.", param="model"),
        405: error(405, "method_not_allowed", "TorchServe does not take this method here."),
        413: error(413, "body_too_large", "The body is over what TorchServe takes."),
        500: error(500, "internal_error", "The worker did not answer; the server's log says why."),
        503: FULL,
        507: error(503, "out_of_memory", "The device has no room; try again later.", headers=OVERLOADED),
    }
    replies = "".join(
        f"    http-response return {answer} if {{ status {status} }} !handler\n" for status, answer in own.items()
    )
    return f"""
backend {name}
    http-reuse always
    # HAProxy waits a second before each
    retry-on conn-failure
    retries {settings.gateway_wait_s}
    timeout server {settings.gateway_wait_s + route.response_timeout_s}s
    http-request deny {FULL} if {{ queue gt 0 }} {{ nbsrv(torchserve) gt 0 }} !{{ req.hdr({CAME_TO}) -m str 0 }}
    http-request del-header {CAME_TO}
    # an answer of the handler says what made it; TorchServe's own are put into our form
    acl handler res.hdr(X-Embedkit-Fingerprint) -m found
{replies}    server torchserve {host} maxconn {places}
"""
