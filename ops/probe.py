"""The truth is a real request: embed a known text over HTTP and compare the vector with the reference."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import requests
from numpy.typing import NDArray

from ops import loopback
from ops.canary import Mark, gateway_key_of, mark_of
from ops.settings import Settings

Outcome = Literal["ok", "wrong_vector", "refused", "timeout", "unreachable"]

MIN_COSINE = 0.999  # the precision gate that every archive passed; less means a wrong model or a broken device


@dataclass(frozen=True)
class Reference:
    """A text and the vector that plain sentence-transformers gave for it when the archive was verified.

    `verified` is the smallest cosine that the archive's own vectors came to then.
    """

    text: str
    vector: tuple[float, ...]
    verified: float = 1.0


@dataclass(frozen=True)
class Probe:
    """What one real request came to. `error` is empty when the right vector came back, `outcome` then "ok"."""

    model: str
    latency_s: float
    cosine: float | None = None
    error: str = ""
    outcome: Outcome = "ok"

    @property
    def ok(self) -> bool:
        return not self.error


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def refusal(answer: requests.Response) -> str:
    """What an answer that is not 200 says, from the kit's error form or TorchServe's own."""
    try:
        body = answer.json()
        message = body["error"]["message"] if "error" in body else body["message"]
    except (ValueError, KeyError, TypeError):
        message = answer.text[:200].strip()
    return f"HTTP {answer.status_code}: {message}"


def probe(settings: Settings, model: str, reference: Reference, timeout_s: float = 10.0, *, version: str = "") -> Probe:
    """Send the reference text to a model in TorchServe, past any gateway, marked, so that it does not count as traffic.

    Without a `version` the model's default one answers, as for users. Never raises: a failure is the finding.
    """
    mark = mark_of(settings) or Mark("", {})
    path = f"/predictions/{model}/{version}" if version else f"/predictions/{model}"
    url = settings.inference_url(path) + (f"?{mark.query}" if mark.query else "")
    return _sent(url, mark.headers, model, reference, timeout_s)


def probe_gateway(settings: Settings, model: str, reference: Reference, timeout_s: float) -> Probe:
    """The same as users send it, through the gateway, with the canary's key."""
    try:
        headers = {"Authorization": f"Bearer {gateway_key_of(settings)}"}
    except (OSError, UnicodeDecodeError) as error:
        return Probe(model, 0.0, None, f"the canary's key cannot be had: {error}", "refused")
    return _sent(settings.gateway_url(f"/v1/models/{model}/embeddings"), headers, model, reference, timeout_s)


def _sent(  # noqa: PLR0911 - a return an outcome
    url: str, headers: Mapping[str, str], model: str, reference: Reference, timeout_s: float
) -> Probe:
    started = time.perf_counter()

    def failed(outcome: Outcome, error: str, alike: float | None = None) -> Probe:
        return Probe(model, time.perf_counter() - started, alike, error, outcome)

    body = {"input": reference.text}
    try:
        answer = loopback.request("POST", url, json=body, headers=headers, timeout=timeout_s, verify=False)
        latency = time.perf_counter() - started
        if answer.status_code != 200:
            return failed("refused", refusal(answer))
        vector = np.asarray(answer.json()["data"][0]["embedding"], dtype=np.float64)
        wanted = np.asarray(reference.vector, dtype=np.float64)
        if vector.shape != wanted.shape:
            return failed("wrong_vector", f"a vector of {vector.size} numbers came back, {wanted.size} expected")
        found = cosine(vector, wanted)
        if not found >= MIN_COSINE:  # nor is a nan
            return failed("wrong_vector", f"a wrong vector came back: cosine {found:.5f} to the reference", found)
        return Probe(model, latency, found)
    except requests.Timeout:
        return failed("timeout", f"no answer within {timeout_s:g} s")
    except requests.ConnectionError:
        return failed("unreachable", "nothing accepts connections there yet")
    except (requests.RequestException, ValueError, KeyError, IndexError, TypeError) as error:
        return failed("refused", f"not an embedding answer: {error}")


def probe_known(settings: Settings, model: str, reference: Reference | None, timeout_s: float) -> Probe:
    """The same; a model that there is nothing to compare with is a finding too."""
    if reference is None:
        return Probe(model, 0.0, error=f"its archive was not verified here: run `embedkit verify {model}`")
    return probe(settings, model, reference, timeout_s)
