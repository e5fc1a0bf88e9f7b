"""The request contract over HTTP against the running server: every way in, every refusal, and nobody harmed."""

import base64
import gzip
import re
import subprocess
from pathlib import Path

import numpy as np
import openai
import orjson
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from tests.e2e.stack import TEXT, Stack
from tests.model_folders import minilm_folder

pytestmark = pytest.mark.e2e

JSON = {"Content-Type": "application/json"}


def shell(stack: Stack, command: str) -> bytes:
    done = subprocess.run(["bash", "-c", command], env=stack.environ, cwd=stack.folder, capture_output=True, check=True)
    return done.stdout


@pytest.mark.needs("curl")
def test_the_notes_curl_commands_work_word_for_word(stack: Stack) -> None:
    """The three requests of the hand-made set-up's notes, but for port and model name, are answered with vectors."""
    port = stack.settings.inference_port
    upload = shell(
        stack,
        """echo '{"input":"教练, 我想打篮球."}' > note.txt; """
        f"curl -sS -X POST  http://localhost:{port}/predictions/minilm -T note.txt",
    )
    single = shell(
        stack,
        f"curl -sS -X POST --header 'Content-Type: application/json'  http://localhost:{port}/predictions/minilm "
        """--data-raw '{"input":"如何使用torchserve部署模型"}'""",
    )
    several = shell(
        stack,
        f"curl -sS -X POST --header 'Content-Type: application/json'  http://localhost:{port}/predictions/minilm "
        """--data-raw '{"input":["教练, 我想打篮球.", "如何使用torchserve部署模型", "怎么训练bert模型", """
        """"怎么使用tensorflow训练bert模型", "怎么使用tfserving部署bert模型"]}'""",
    )
    assert [len(orjson.loads(answer)["data"]) for answer in (upload, single, several)] == [1, 1, 5]
    np.testing.assert_allclose(
        orjson.loads(upload)["data"][0]["embedding"], orjson.loads(several)["data"][0]["embedding"], atol=1e-5
    )


def test_every_way_in_gives_the_same_vector(stack: Stack, tmp_path: Path) -> None:
    """JSON with and without a Content-Type, PUT and POST uploads, multipart, gzip: one text, one vector."""
    expected = stack.embed()
    body = orjson.dumps({"input": TEXT})
    url = stack.url()
    answers = [
        requests.post(url, data=body, headers=JSON, timeout=30),
        requests.post(url, data=body, headers={"Content-Type": "application/json; charset=utf-8"}, timeout=30),
        requests.post(url, data=body, timeout=30),
        requests.put(url, data=body, timeout=30),
        requests.post(url, files={"data": ("note.txt", body)}, timeout=30),
        requests.post(url, data=gzip.compress(body), headers={**JSON, "Content-Encoding": "gzip"}, timeout=30),
        requests.post(stack.url(path="/1.0"), data=body, headers=JSON, timeout=30),
        requests.post(stack.url(path="/1.0/v1/embeddings"), data=body, headers=JSON, timeout=30),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["data"][0]["embedding"], expected, atol=1e-6)


def test_the_openai_client_unmodified(stack: Stack) -> None:
    """openai.OpenAI embeds with its own defaults (base64), as floats, with dimensions, and sees errors as its own."""
    client = openai.OpenAI(base_url=stack.url(path="/1.0/v1"), api_key="unused", max_retries=0)
    expected = stack.embed()
    default = client.embeddings.create(model="minilm", input=[TEXT, "another text"])
    assert len(default.data) == 2
    np.testing.assert_allclose(default.data[0].embedding, expected, atol=1e-6)
    assert default.usage.prompt_tokens > 4
    floats = client.embeddings.create(model="minilm", input=TEXT, encoding_format="float")
    np.testing.assert_allclose(floats.data[0].embedding, expected, atol=1e-6)
    short = client.embeddings.create(model="minilm", input=TEXT, dimensions=64)
    cut = expected[:64] / np.linalg.norm(expected[:64])
    np.testing.assert_allclose(short.data[0].embedding, cut, atol=1e-6)
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="minilm", input=TEXT, dimensions=385)
    assert caught.value.param == "dimensions"


def test_base64_is_little_endian_float32(stack: Stack) -> None:
    """The base64 answer decodes to the same numbers."""
    answer = stack.post({"input": TEXT, "encoding_format": "base64"}).json()
    decoded = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(decoded, stack.embed(), atol=1e-6)


def test_each_answer_carries_its_fingerprint(stack: Stack) -> None:
    """Model, revision, backend, dtype and kit version come in a header of every answer."""
    fingerprint = stack.post({"input": TEXT}).headers["X-Embedkit-Fingerprint"]
    assert re.fullmatch(r"minilm/1\.0 rev=\S+ (openvino|torch) (bfloat16|float32) kit=\S+", fingerprint)


@pytest.mark.parametrize(
    ("kwargs", "status", "said"),
    [
        (
            {"data": b'{"input":"x"}', "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
            415,
            "application/json",
        ),
        ({"data": b"not json", "headers": JSON}, 400, "JSON"),
        ({"data": b"[" * 100_000, "headers": JSON}, 400, ""),
        ({"data": bytes(range(256)), "headers": {"Content-Type": "application/octet-stream"}}, 400, ""),
        ({"data": b'{"input":"\\ud800"}', "headers": JSON}, 400, ""),
        ({"data": b'{"input":[]}', "headers": JSON}, 400, "input"),
        ({"data": b'{"input":[NaN]}', "headers": JSON}, 400, ""),
        ({"data": b'{"input":[[999999999]]}', "headers": JSON}, 400, ""),
        ({"data": b'{"input":"x","model":"gpt"}', "headers": JSON}, 404, "gpt"),
        ({"data": b"\x1f\x8bbroken", "headers": {**JSON, "Content-Encoding": "gzip"}}, 400, "gzip"),
        ({"data": b'{"input":"x"}', "headers": {"Content-Type": "application/json; charset=nonsense"}}, 415, "charset"),
    ],
)
def test_bad_requests_are_told_in_the_error_form(
    stack: Stack, kwargs: dict[str, object], status: int, said: str
) -> None:
    """Each refusal has its status and {"error": {message, type, param, code}}; the workers live on."""
    before = stack.worker_pids()
    answer = requests.post(stack.url(), timeout=30, **kwargs)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert said in error["message"]
    assert stack.worker_pids() == before


@pytest.mark.parametrize(
    ("body", "limit"),
    [({"input": ["a"] * 4}, "3"), ({"input": "x" * 101}, "100"), ({"input": ["fine", "x" * 101]}, "100")],
)
def test_limits_come_from_models_toml(stack: Stack, body: dict[str, object], limit: str) -> None:
    """Too many texts or characters is an error that names the limit of that model."""
    stack.embedkit("up", "limited")
    answer = stack.post(body, "limited")
    assert answer.status_code in {400, 413}
    assert limit in answer.json()["error"]["message"]


def test_float32_is_float32(stack: Stack) -> None:
    """A model that asks for float32 gives what sentence-transformers computes in process, cosine at least 0.99999."""
    stack.embedkit("up", "limited")
    expected = SentenceTransformer(str(minilm_folder()), device="cpu").encode(TEXT, normalize_embeddings=True)
    assert float(expected @ stack.embed(model="limited")) >= 0.99999


@pytest.mark.parametrize("megabytes", [8, 31])
def test_torchserves_bare_413_is_never_met(stack: Stack, megabytes: int) -> None:
    """A body above TorchServe's default limit and below 32 MB gets the kit's own error, which names a limit."""
    answer = requests.post(stack.url(), data=b'{"input":"' + b"x" * (megabytes << 20) + b'"}', headers=JSON, timeout=60)
    assert answer.status_code == 413
    assert "100000" in answer.json()["error"]["message"]


@pytest.mark.usefixtures("stack")
def test_fuzzed_bodies_never_end_a_worker(stack: Stack) -> None:
    """Hundreds of hostile bodies and headers get an answer each; good ones in between stay right; same worker pids."""
    before, expected = stack.worker_pids(), stack.embed()
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50)
    anything = st.recursive(
        leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    )
    fields = st.fixed_dictionaries(
        {"input": anything},
        optional=dict.fromkeys(("encoding_format", "dimensions", "prompt_name", "truncate", "model", "user"), anything),
    )
    bodies = st.binary(max_size=300) | (fields | anything).map(orjson_or_repr)
    types = st.sampled_from(
        ["application/json", "text/plain", "", "application/json; charset=utf-16", "multipart/form-data"]
    )

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(body=bodies, content_type=types, encoding=st.sampled_from([None, "gzip", "br", "identity"]))
    def attack(body: bytes, content_type: str, encoding: str | None) -> None:
        headers = {"Content-Type": content_type} if content_type else {}
        if encoding:
            headers["Content-Encoding"] = encoding
        answer = requests.post(stack.url(), data=body, headers=headers, timeout=30)
        assert answer.status_code in {200, 400, 404, 413, 415}, (answer.status_code, answer.text, body)

    attack()
    np.testing.assert_allclose(stack.embed(), expected, atol=1e-6)
    assert stack.worker_pids() == before


def orjson_or_repr(value: object) -> bytes:
    """The value as JSON where JSON has it, else something close to it that is no JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return repr(value).encode("utf-8", "surrogatepass")
