"""The truth is a real request: embed a known text over HTTP and compare the vector with the reference."""

import time
from dataclasses import dataclass

import numpy as np
import requests
from numpy.typing import NDArray

from ops.settings import Settings

MIN_COSINE = 0.999  # the precision gate that every archive passed; less means a wrong model or a broken device


@dataclass(frozen=True)
class Reference:
    """A text and the vector that plain sentence-transformers gave for it when the archive was verified."""

    text: str
    vector: tuple[float, ...]


@dataclass(frozen=True)
class Probe:
    """What one real request came to. `error` is empty when the right vector came back."""

    model: str
    latency_s: float
    cosine: float | None = None
    error: str = ""

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


def probe(settings: Settings, model: str, reference: Reference, timeout_s: float = 10.0) -> Probe:
    """Send the reference text to a served model as any client would. Never raises: a failure is the finding."""
    started = time.perf_counter()
    try:
        answer = requests.post(
            settings.inference_url(f"/predictions/{model}"), json={"input": reference.text}, timeout=timeout_s
        )
        latency = time.perf_counter() - started
        if answer.status_code != 200:
            return Probe(model, latency, error=refusal(answer))
        vector = np.asarray(answer.json()["data"][0]["embedding"], dtype=np.float64)
        wanted = np.asarray(reference.vector, dtype=np.float64)
        if vector.shape != wanted.shape:
            return Probe(model, latency, error=f"a vector of {vector.size} numbers came back, {wanted.size} expected")
        found = cosine(vector, wanted)
        wrong = "" if found >= MIN_COSINE else f"a wrong vector came back: cosine {found:.5f} to the reference"
        return Probe(model, latency, found, wrong)
    except requests.ConnectionError:
        return Probe(model, time.perf_counter() - started, error="nothing accepts connections there yet")
    except requests.Timeout:
        return Probe(model, time.perf_counter() - started, error=f"no answer within {timeout_s:g} s")
    except (requests.RequestException, ValueError, KeyError, IndexError, TypeError) as error:
        return Probe(model, time.perf_counter() - started, error=f"not an embedding answer: {error}")
