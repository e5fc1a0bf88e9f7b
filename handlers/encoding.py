"""Vectors → the answer's bytes, without a Python loop over floats."""

import base64

import numpy as np
import orjson
from numpy.typing import NDArray

from .errors import TooLargeError
from .protocol import EncodingFormat

Vectors = NDArray[np.float32]

# The least a vector can take: "0.0," a float; base64 takes exactly 4 characters per 3 bytes.
_LEAST_FLOAT = 4
_BYTES_A_FLOAT = 4


def cut(vectors: Vectors, dimensions: int | None) -> Vectors:
    """The first `dimensions` columns of (n, size) L2-normalised vectors, normalised again."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    head = vectors[:, :dimensions]
    norms = np.linalg.norm(head, axis=1, keepdims=True)
    return np.ascontiguousarray(head / np.maximum(norms, np.float32(1e-12)), dtype=np.float32)


def answer(vectors: Vectors, encoding_format: EncodingFormat, *, model: str, tokens: int, max_bytes: int) -> bytes:
    """The OpenAI answer for C-contiguous float32 vectors (n, size), `tokens` the request's real tokens.

    Raises TooLargeError where it would pass `max_bytes`.
    """
    form = _base64 if encoding_format == "base64" else _as_it_is
    body = orjson.dumps(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": form(vector)}
                for index, vector in enumerate(vectors)
            ],
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return body


def refuse_oversized(count: int, dimensions: int, encoding_format: EncodingFormat, *, max_bytes: int) -> None:
    """Before anything is computed: raises TooLargeError where even the shortest answer would pass `max_bytes`."""
    vector = -(-dimensions * _BYTES_A_FLOAT // 3) * 4 if encoding_format == "base64" else dimensions * _LEAST_FLOAT
    if count * vector > max_bytes:
        raise _too_large(max_bytes)


def _base64(vector: Vectors) -> str:
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode("ascii")


def _as_it_is(vector: Vectors) -> Vectors:
    return vector


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"the answer would be larger than {max_bytes} bytes (max_answer_bytes); send fewer texts, fewer "
        "'dimensions', or encoding_format 'base64'",
        param="input",
        code="answer_too_large",
    )
