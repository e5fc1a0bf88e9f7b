"""Hypothesis strategies for anything at all as a request: near misses of a good body, JSON, bytes, and headers."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.handlers.torchserve_wire import JSON

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
inputs = (
    st.text(st.characters(codec=None), max_size=80)
    | st.lists(st.text(st.characters(codec=None), max_size=20), max_size=5)
    | st.lists(st.integers(-2, 21_200), max_size=6)
    | st.lists(st.lists(st.integers(-2, 21_200) | st.booleans() | st.floats(), max_size=4), max_size=4)
    | json_values
)
options: dict[str, Any] = {
    "model": st.sampled_from(["tested", "tested/1.0", "x"]) | json_values,
    "encoding_format": st.sampled_from(["float", "base64"]) | json_values,
    "dimensions": st.integers(-1, 70) | json_values,
    "prompt_name": st.sampled_from(["query", "document"]) | json_values,
    "truncate": st.booleans() | json_values,
    "user": json_values,
}
near_misses = st.fixed_dictionaries({"input": inputs}, optional=options)


def as_python_json(value: object) -> bytes:
    """With lone surrogates and NaN written as Python does: the worst a lenient client sends."""
    return json.dumps(value).encode()


bodies = near_misses.map(as_python_json) | json_values.map(as_python_json) | st.binary(max_size=300)
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
headers = st.dictionaries(
    st.sampled_from(["Content-Type", "content-type", "Content-Encoding", "url_path", "Accept", "data"]),
    st.sampled_from([JSON, "gzip", "v1/embeddings", "text/plain; charset=utf-16", "multipart/form-data", "identity"])
    | plain,
    max_size=3,
)
