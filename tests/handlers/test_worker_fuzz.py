"""Anything at all as a request, beside good ones, through TorchServe's own worker code."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.bge_handler import BgeHandler
from tests.handlers.torchserve_wire import JSON, Sent, Worker, json_body, unpack

GOOD = json_body({"input": ["教练, 我想打篮球.", "b"]})

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
    import json

    return json.dumps(value).encode()


bodies = near_misses.map(as_python_json) | json_values.map(as_python_json) | st.binary(max_size=300)
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
headers = st.dictionaries(
    st.sampled_from(["Content-Type", "content-type", "Content-Encoding", "url_path", "Accept", "data"]),
    st.sampled_from([JSON, "gzip", "v1/embeddings", "text/plain; charset=utf-16", "multipart/form-data", "identity"])
    | plain,
    max_size=3,
)
parts = st.lists(
    st.tuples(st.sampled_from(["body", "data", "input", "Content-Type"]) | plain, st.just(JSON) | plain, bodies),
    max_size=3,
)
requests = st.builds(Sent, parts, headers) | bodies.map(lambda body: Sent([("body", JSON, body)], {}))


@pytest.fixture(scope="module")
def worker(bge_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return Worker(BgeHandler(), unpack(tmp_path_factory.mktemp("fuzz"), bge_folder, device="cpu", max_texts=4))


@pytest.mark.parametrize("decoded", ["true", "false"])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(requests, min_size=1, max_size=3))
def test_anything_is_answered_and_harms_nobody(
    worker: Worker, decoded: str, monkeypatch: pytest.MonkeyPatch, batch: list[Sent]
) -> None:
    """Each request is answered with vectors or with an error of its own making; the good ones with theirs."""
    monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", decoded)
    expected = np.array(worker.ask_one(GOOD).vectors)

    first, *others, last = worker.ask(GOOD, *batch, GOOD)

    for good in (first, last):
        np.testing.assert_allclose(np.array(good.vectors), expected, atol=1e-5)
    for answer in others:
        body = orjson.loads(answer.body)
        assert answer.content_type == JSON
        if answer.status == 200:
            assert body["object"] == "list"
        else:
            assert answer.status in {400, 404, 413, 415}
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert answer.phrase.isascii()
            assert answer.phrase.isprintable()
