"""`/healthz`: whether every served model came back right when it was last tried, and that is not long ago.

For load balancers, through the gateway. The canaries are what it knows: it tries nothing itself.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import orjson

from ops.exporter.source import SourceError
from ops.exporter.sources.canary import TIMEOUT_S, CanarySource
from ops.prober import Tried


@dataclass(frozen=True)
class Health:
    """`models` as the answer shows them; `reason` why the whole is unhealthy where no model says so."""

    models: Mapping[str, Mapping[str, Any]]
    reason: str = ""

    @property
    def ok(self) -> bool:
        return not self.reason and all(one["healthy"] for one in self.models.values())

    def body(self) -> bytes:
        status = {"status": "healthy" if self.ok else "unhealthy"} | ({"reason": self.reason} if self.reason else {})
        return orjson.dumps({**status, "models": self.models})


def oldest_s(interval_s: float) -> float:
    """How old a try may be: one that was missed, and the time that the next may take."""
    return 2 * interval_s + TIMEOUT_S


def judge(tries: Mapping[str, Tried | None], interval_s: float, now: float) -> Health:
    """What the last tries say at the Unix time `now`."""
    models = {}
    for model, tried in tries.items():
        if tried is None:
            models[model] = {"healthy": False, "error": "not tried yet", "cosine": None, "age_s": None}
            continue
        age_s = max(0.0, now - tried.at)
        error = tried.probe.error
        if tried.probe.outcome == "refused":
            error = error.partition(":")[0]  # the rest is the server's own words, for the log alone
        if not error and age_s > oldest_s(interval_s):
            error = f"not tried for {age_s:.0f} s"
        models[model] = {
            "healthy": not error,
            "error": error,
            "cosine": tried.probe.cosine,
            "age_s": round(age_s, 1),
        }
    return Health(models, "" if tries else "no model is served")


def health_now(canary: CanarySource, interval_s: float) -> Health:
    """What the canaries say now."""
    try:
        return judge(canary.last_tries(), interval_s, time.time())
    except SourceError:
        return Health({}, "what is to be served cannot be read: the exporter's log says why")


def with_health(metrics: WSGIApplication, health: Callable[[], Health]) -> WSGIApplication:
    """The WSGI application of the metrics, with /healthz beside them."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/healthz":
            return metrics(environ, start_response)
        found = health()
        body = found.body()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK" if found.ok else "503 Service Unavailable", headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    return answer
