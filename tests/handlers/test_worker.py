"""A batch through TorchServe's own worker code: each request its own answer, on its own terms."""

import base64
import gzip
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest
import torch
from numpy.typing import NDArray

from handlers import isolation
from handlers.deadline import Deadline
from handlers.encoding import Vectors
from handlers.tokenizing import Tokens
from tests.handlers.torchserve_wire import JSON, Answer, Sent, Worker, json_body, raw_body

HELLO = {"input": "hello"}
POISON = 2_700  # a token id that the tests' broken engine cannot compute


def vectors(answer: Answer) -> NDArray[np.float32]:
    assert answer.status == 200, answer.body
    return np.array(answer.vectors, dtype=np.float32)


def assert_same(expected: Answer, got: Answer) -> None:
    np.testing.assert_allclose(vectors(got), vectors(expected), atol=2e-6)


def test_an_answer_has_openai_form(minilm: Worker) -> None:
    """Object, index, model, usage; a JSON content type; a fingerprint."""
    answer = minilm.ask_one(json_body({"input": ["hello", "hello world"], "model": "tested"}))

    body = answer.json
    assert (body["object"], body["model"], answer.content_type) == ("list", "tested", JSON)
    assert [(item["object"], item["index"], len(item["embedding"])) for item in body["data"]] == [
        ("embedding", 0, 384),
        ("embedding", 1, 384),
    ]
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert answer.headers["X-Embedkit-Fingerprint"] == minilm.handler.card.fingerprint


@pytest.mark.parametrize("decoded", ["true", "false"])
def test_every_way_of_sending_gets_the_same_vector(
    minilm: Worker, decoded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a Content-Type or without, uploaded, zipped; whatever decode_input_request says."""
    monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", decoded)
    body = orjson.dumps(HELLO)
    ways = [
        json_body(HELLO),
        raw_body(body),
        raw_body(body, Content_Type="application/json; charset=utf-8"),
        raw_body(body, Content_Type="text/plain"),
        raw_body(body, content_type="application/octet-stream"),
        raw_body(body, Content_Type=JSON, Expect="100-continue"),
        raw_body(gzip.compress(body), Content_Type=JSON, Content_Encoding="gzip"),
        raw_body(body, Content_Type=JSON, url_path="v1/embeddings"),
        Sent([("data", "application/octet-stream", body)], {"Content-Type": "multipart/form-data; boundary=b"}),
        Sent([("data", "text/plain", body)], {"Content-Type": "multipart/form-data; boundary=b"}),
        Sent([("data", JSON, body), ("url_path", "text/plain", b"x")], {"Content-Type": "multipart/form-data"}),
    ]

    first, *others = minilm.ask(*ways)

    for other in others:
        assert_same(first, other)


def test_formats_agree(minilm: Worker) -> None:
    """base64 carries the floats' bytes; fewer dimensions are the first ones, normalised."""
    floats, packed, cut = minilm.ask(
        json_body(HELLO),
        json_body({**HELLO, "encoding_format": "base64"}),
        json_body({**HELLO, "dimensions": 12}),
    )

    whole = vectors(floats)[0]
    decoded = np.frombuffer(base64.b64decode(packed.json["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(decoded, whole, atol=2e-6)
    np.testing.assert_allclose(vectors(cut)[0], whole[:12] / np.linalg.norm(whole[:12]), atol=2e-6)


def test_token_ids_are_the_text(minilm: Worker) -> None:
    """The ids a text has give its vector, with the special tokens or without."""
    text, bare, dressed, several = minilm.ask(
        json_body({"input": "hello world"}),
        json_body({"input": [7592, 2088]}),
        json_body({"input": [101, 7592, 2088, 102]}),
        json_body({"input": [[7592, 2088], [101, 7592, 2088, 102]]}),
    )

    assert_same(text, bare)
    assert_same(text, dressed)
    np.testing.assert_allclose(vectors(several), np.repeat(vectors(text), 2, axis=0), atol=2e-6)
    assert [answer.json["usage"]["prompt_tokens"] for answer in (text, bare, dressed, several)] == [4, 4, 4, 8]


def test_a_prompt_is_put_in_front(minilm: Worker) -> None:
    """prompt_name is the same as writing the prompt."""
    named, written = minilm.ask(json_body({**HELLO, "prompt_name": "query"}), json_body({"input": "query: hello"}))

    assert_same(written, named)


def test_usage_counts_what_was_computed(minilm: Worker) -> None:
    """A text that is cut counts with the tokens that were read."""
    answer = minilm.ask_one(json_body({"input": ["word " * 1000, "word"]}))

    assert answer.json["usage"] == {"prompt_tokens": 259, "total_tokens": 259}


def test_a_cut_can_be_refused(minilm: Worker) -> None:
    """truncate: false names the item, its tokens and the limit; its neighbour is computed."""
    refused, fine = minilm.ask(
        json_body({"input": ["word", "word " * 1000], "truncate": False}),
        json_body({"input": "word", "truncate": False}),
    )

    assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")
    assert "'input[1]' has more than 256 tokens; this model reads 256" in refused.error["message"]
    assert fine.status == 200


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (raw_body(b"{"), 400, "invalid_json"),
        (raw_body(b"\x00\xff"), 400, "invalid_charset"),
        (raw_body(b"[" * 100_000, Content_Type=JSON), 400, "invalid_json"),
        (raw_body(b'{"input": "\\ud800"}', Content_Type=JSON), 400, None),
        (raw_body(b'{"input": [NaN]}', Content_Type=JSON), 400, None),
        (raw_body(b'{"input": [1e999]}', Content_Type=JSON), 400, None),
        (raw_body(b'{"input": "x", "model": "\\ud800"}', Content_Type=JSON), None, None),
        (raw_body(b'{"input": "x", "prompt_name": "\\udfff\\n"}', Content_Type=JSON), 400, None),
        (raw_body(b'{"input": [%s]}' % (b"9" * 4000), Content_Type=JSON), 400, None),
        (json_body({"input": ["x"] * 9}), 413, "too_many_texts"),
        (json_body({"input": "x" * 20_001}), 413, "text_too_long"),
        (raw_body(b" " * 200_001), 413, "body_too_large"),
        (json_body({"input": [30_522]}), 400, "token_out_of_range"),
        (json_body({"input": "x", "model": "other"}), 404, "model_not_found"),
        (json_body({"input": "x"}, url_path="v1/chat/completions"), 404, "unknown_path"),
        (
            Sent([('{"input":"x', "text/plain", b'1"}')], {"content-type": "application/x-www-form-urlencoded"}),
            415,
            "unsupported_media_type",
        ),
        (json_body(HELLO, Content_Encoding="br"), 415, "unsupported_encoding"),
        (raw_body(b"{}", Content_Type="application/json; charset=klingon"), None, None),
        (Sent([]), 400, "missing_body"),
    ],
)
@pytest.mark.parametrize("decoded", ["true", "false"])
def test_a_bad_request_harms_nobody(
    minilm: Worker,
    request_: Sent,
    status: int | None,
    code: str | None,
    decoded: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It gets its error in OpenAI's form; the requests before and after it their vectors."""
    monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", decoded)
    expected = minilm.ask_one(json_body(HELLO))

    before, bad, after = minilm.ask(json_body(HELLO), request_, json_body(HELLO))

    assert_same(expected, before)
    assert_same(expected, after)
    assert 400 <= bad.status < 500
    assert bad.status == (status or bad.status)
    assert (code or bad.error["code"]) == bad.error["code"]
    assert set(bad.error) == {"message", "type", "param", "code"}
    assert bad.phrase.isascii()
    assert bad.content_type == JSON


def test_models_are_listed(minilm: Worker) -> None:
    """What reaches the handler as v1/models is answered as OpenAI does."""
    answer = minilm.ask_one(Sent([], {"url_path": "v1/models"}))

    assert [model["id"] for model in answer.json["data"]] == ["tested"]


def test_describe_tells_what_is_served(minilm: Worker) -> None:
    """The management API's customized description holds what may be told to anybody."""
    answer = minilm.ask_one(Sent([], {"describe": "True"}))

    described = answer.json
    assert (described["dimensions"], described["max_tokens"], described["max_request_tokens"]) == (384, 256, 524_288)
    assert "pid" not in answer.json  # any client can send that header


class BrokenEngine:
    """Stands before the real engine: fails in its own way wherever the poisoned token is in the batch."""

    def __init__(self, worker: Worker, monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> None:
        real = worker.handler.engine.embed
        self.calls: list[int] = []

        def embed(batch: Sequence[Tokens], deadline: Deadline) -> Vectors:
            self.calls.append(len(batch))
            poisoned = [index for index, tokens in enumerate(batch) if POISON in tokens.ids]
            if poisoned and error is not None:
                raise error
            computed = real(batch, deadline)
            computed[poisoned] = np.nan
            return computed

        monkeypatch.setattr(worker.handler.engine, "embed", embed)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 500, "internal_error"),
        (KeyError("sentence_embedding"), 500, "internal_error"),
        (MemoryError(), 503, "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), 503, "out_of_memory"),
        (None, 500, "internal_error"),
    ],
)
def test_only_the_guilty_request_fails(
    minilm: Worker,
    error: BaseException | None,
    status: int,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A batch that cannot be computed together is computed one by one; a NaN fails its own request."""
    expected = minilm.ask_one(json_body(HELLO))
    BrokenEngine(minilm, monkeypatch, error)

    before, guilty, after = minilm.ask(json_body(HELLO), json_body({"input": [5, POISON]}), json_body(HELLO))

    assert_same(expected, before)
    assert_same(expected, after)
    assert (guilty.status, guilty.error["code"], guilty.error["type"]) == (status, code, "server_error")
    assert sum(bool(record.exc_info) for record in caplog.records) == (error is not None)


def test_a_sound_batch_is_computed_once(minilm: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """All texts of all requests make one call, errors among them or not."""
    engine = BrokenEngine(minilm, monkeypatch, None)

    minilm.ask(json_body({"input": ["a", "b"]}), raw_body(b"{"), json_body(HELLO))

    assert engine.calls == [3]


def test_a_cuda_error_ends_the_worker(minilm: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """SystemExit passes TorchServe's own handling, so that the worker is replaced."""
    BrokenEngine(minilm, monkeypatch, RuntimeError("CUDA error: device-side assert triggered"))

    def leave(error: BaseException) -> None:
        if "CUDA error" in str(error):
            raise SystemExit(1)

    # the real one, tested in a process of its own, sets an alarm
    monkeypatch.setattr(isolation, "leave_worker_on_cuda_error", leave)
    with pytest.raises(SystemExit):
        minilm.ask(json_body(HELLO), json_body({"input": [POISON]}))


def test_a_broken_tokenizer_call_is_contained(minilm: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text the tokenizer chokes on costs its own request alone."""
    real = minilm.handler.engine.tokenizer.encode_texts

    def encode(texts: Sequence[str], deadline: Deadline) -> list[Tokens]:
        if "poison" in texts:
            raise TypeError
        return real(texts, deadline)

    monkeypatch.setattr(minilm.handler.engine.tokenizer, "encode_texts", encode)
    fine, guilty = minilm.ask(json_body(HELLO), json_body({"input": "poison"}))

    assert (fine.status, guilty.status) == (200, 500)


def test_an_oversized_answer_is_refused(minilm: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over max_answer_bytes the request gets a 413 that names the limit, before or after computing."""
    monkeypatch.setattr(minilm.handler, "card", replace(minilm.handler.card, max_answer_bytes=4000))

    after, before, fine = minilm.ask(
        json_body(HELLO), json_body({"input": ["a"] * 8}), json_body({**HELLO, "dimensions": 64})
    )

    assert [answer.status for answer in (after, before, fine)] == [413, 413, 200]
    assert "4000 bytes (max_answer_bytes)" in after.error["message"]
    assert "4000 bytes (max_answer_bytes)" in before.error["message"]


def test_requests_leave_no_line_in_the_log(minilm: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the handler nor TorchServe's worker code says anything about a request, good or bad."""
    caplog.set_level(logging.INFO)

    minilm.ask(json_body(HELLO), raw_body(b"{"))

    assert caplog.messages == []
