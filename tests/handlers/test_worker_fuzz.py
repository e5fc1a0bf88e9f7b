"""Anything at all as a request, beside good ones, through TorchServe's own worker code."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.bge_handler import BgeHandler
from tests.handlers.anything import bodies, headers, plain
from tests.handlers.torchserve_wire import JSON, Sent, Worker, json_body, unpack

GOOD = json_body({"input": ["教练, 我想打篮球.", "b"]})

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
