"""`embedkit embed`: texts through the running service, as any client sends them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

from ops import loopback
from ops.desired import desired_file, read_models
from ops.errors import OpsError
from ops.probe import refusal
from ops.settings import Settings


@dataclass(frozen=True)
class Embedded:
    """An answer: `vectors` is (texts, dimensions) float32, `body` the answer as it came."""

    model: str
    vectors: NDArray[np.float32]
    fingerprint: str
    latency_s: float
    body: dict[str, Any]

    @property
    def dimensions(self) -> int:
        return int(self.vectors.shape[1])


def similarity(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of every pair; (texts, texts)."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T, dtype=np.float32)


def served_model(settings: Settings, model: str | None) -> str:
    """The model to ask: the one named, else the only one, else the default one.

    Raises:
        OpsError: nothing is served, or not this model.
    """
    served = read_models(desired_file(settings))
    if not served:
        raise OpsError("nothing is served yet: run `make up`")
    if model is not None and model not in served:
        raise OpsError(f"{model} is not served; served: {', '.join(served)}. Add it with `embedkit up {model}`")
    return model or (settings.default_model if settings.default_model in served else next(iter(served)))


def embed_texts(
    settings: Settings, texts: Sequence[str], *, model: str | None = None, prompt_name: str | None = None
) -> Embedded:
    """Embed texts over HTTP.

    Raises:
        OpsError: the service is down, or refused the request; its own message is shown.
    """
    name = served_model(settings, model)
    body: dict[str, Any] = {"input": list(texts)}
    if prompt_name is not None:
        body["prompt_name"] = prompt_name
    started = time.perf_counter()
    try:
        answer = loopback.request("POST", settings.inference_url(f"/predictions/{name}"), json=body, timeout=300)
    except requests.RequestException as error:
        raise OpsError(f"the service does not answer ({type(error).__name__}): see `embedkit status`") from error
    latency = time.perf_counter() - started
    if answer.status_code != 200:
        raise OpsError(refusal(answer))
    content = answer.json()
    vectors = np.asarray([one["embedding"] for one in content["data"]], dtype=np.float32)
    return Embedded(name, vectors, answer.headers.get("X-Embedkit-Fingerprint", ""), latency, content)
