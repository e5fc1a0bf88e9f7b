"""Wait until each program that supervisord was told to run runs, past its first seconds, and answers where `up` says
that it can be met; a program that will not is an error."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import requests

from ops import loopback
from ops.errors import OpsError
from ops.gateway.knock import ask, knock
from ops.probe import MIN_COSINE, Reference, cosine, probe
from ops.serving import POLL_S, with_log
from ops.settings import OPTIONAL, Settings
from ops.supervisor.control import Program, Supervisor

# From the moment that the models answer: Grafana makes its database at its first start, on a slow disk too.
LIMIT_S = 60.0
TIMEOUT_S = 10.0


def _get(url: str) -> str:
    """What is wrong with the answer of one of the kit's own addresses; empty where it is 200."""
    try:
        answer = loopback.request("GET", url, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        return f"{url} does not answer ({type(error).__name__})"
    return "" if answer.status_code == 200 else f"{url} says {answer.status_code} {answer.text[:300].strip()}"


def _gateway(settings: Settings, references: Mapping[str, Reference]) -> str:
    """The same of the gateway: it is ours, says that the models are healthy, and gives the right vector of each where
    nobody needs a key; where one is needed, it was seen to refuse."""
    url = settings.gateway_url()
    try:
        door = knock(settings)
        if door == "silent":
            return f"{url} does not answer as the gateway"
        status, body = ask(settings, "GET", "/healthz", timeout_s=TIMEOUT_S)
        if status != 200:
            return f"{url}/healthz says {status} {body[:300].decode(errors='replace')}"
        for model, reference in references.items() if door == "open" else ():
            text = orjson.dumps({"model": model, "input": reference.text})
            status, body = ask(settings, "POST", f"/v1/models/{model}/embeddings", text, timeout_s=TIMEOUT_S)
            if status != 200:
                return f"{url} says {status} to {model}'s known text: {body[:300].decode(errors='replace')}"
            vector = np.asarray(orjson.loads(body)["data"][0]["embedding"])
            wanted = np.asarray(reference.vector)
            if vector.shape != wanted.shape or not cosine(vector, wanted) >= MIN_COSINE:
                return f"{url} gives a wrong vector of {model}"
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        return f"{url} does not answer rightly ({type(error).__name__}: {error})"
    return ""


def _torchserve(settings: Settings, references: Mapping[str, Reference]) -> str:
    found = (probe(settings, model, reference, TIMEOUT_S) for model, reference in references.items())
    wrong = next((f"{one.model}: {one.error}" for one in found if not one.ok), "")
    return wrong or _get(settings.metrics_url("/metrics"))


def _faults(settings: Settings, references: Mapping[str, Reference]) -> dict[str, Callable[[], str]]:
    """Program → what is wrong where it can be met; the watchdog has no such place."""
    health = {"prometheus": "/-/healthy", "alertmanager": "/-/healthy", "grafana": "/api/health"}
    observers = {name: partial(_get, settings.local_url(name) + path) for name, path in health.items()}
    return {
        "torchserve": lambda: _torchserve(settings, references),
        "exporter": lambda: _get(settings.exporter_url("/metrics")) or _get(settings.exporter_url("/healthz")),
        "gateway": lambda: _gateway(settings, references),
        **observers,
    }


def _failure(program: Program, why: str) -> OpsError:
    serves = "" if program.name == "torchserve" else "; the models answer without it"
    way_out = f", or set EMBEDKIT_{program.name.upper()}=off" if program.name in OPTIONAL else ""
    said = f"{program.name} {why}{serves}. Mend it{way_out}, then `embedkit up` again"
    return with_log(said, Path(program.log))


def wait_until_answering(
    settings: Settings, references: Mapping[str, Reference], progress: Callable[[str], None]
) -> None:
    """Return when every program of supervisord runs and answers; `progress` hears what is waited for. The models of
    `references`, each with its known text and vector, answer on TorchServe's own port by now.

    Raises:
        OpsError: one has ended for good, was stopped meanwhile, or does not answer in time; with the next step and the
            last lines of its log.
    """
    supervisor, faults = Supervisor(settings), _faults(settings, references)
    # a canary that failed while TorchServe was away may be followed by the next after the whole interval
    deadline = time.monotonic() + LIMIT_S + settings.canary_interval_s
    answered: set[tuple[str, int]] = set()
    shown = ""
    while True:
        waiting = []
        for one in supervisor.programs():
            if one.state in {"FATAL", "STOPPED", "STOPPING"}:
                raise _failure(one, f"is {one.state} {one.spawn_error}".strip())
            why = f"is {one.state}"
            if one.state == "RUNNING":
                known = (one.name, one.pid) in answered or one.name not in faults
                why = "" if known else faults[one.name]()
            if why:
                waiting.append((one, why))
            else:
                answered.add((one.name, one.pid))
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise _failure(*waiting[0])
        if shown != (shown := ", ".join(one.name for one, _ in waiting)):
            progress(f"waiting for {shown}")
        time.sleep(POLL_S)
