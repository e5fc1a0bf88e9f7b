"""Vectors against plain SentenceTransformer.encode(normalize_embeddings=True) in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from handlers.base import EmbeddingHandler
from handlers.bge_handler import BgeHandler
from handlers.processor import computes_bfloat16, flags
from handlers.sentence_handler import SentenceHandler
from handlers.tao_8k_handler import Tao8kHandler
from tests.handlers.conftest import BACKENDS
from tests.handlers.torchserve_wire import Answer, Worker, json_body, unpack
from tests.model_folders import minilm_folder

SENTENCES = [
    "a",
    "教练, 我想打篮球.",
    "  How do I deploy a model?\n",
    "MIXED Case, naïve café, 1,234.5 € and 😀",
    "如何使用torchserve部署模型",
    "\u0000 a NUL and\ta tab \u2028",
    " ",
    "word " * 40,
]
CHARACTERS = "学而时习之不亦说乎有朋自远方来不亦乐乎人不知而不愠不亦君子乎"


def of_tokens(count: int) -> str:
    """A Chinese text of `count` tokens, the two special ones included: a token a character."""
    content = max(1, count - 2)
    return "".join(CHARACTERS[(index * 7 + index // 31) % len(CHARACTERS)] for index in range(content))


def reference(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    model = SentenceTransformer(str(folder), device="cpu")
    # one at a time: nothing the reference does to a batch can matter
    vectors: NDArray[np.float32] = np.stack(
        [model.encode(text, normalize_embeddings=True, show_progress_bar=False) for text in texts]
    )
    return vectors


def least_cosine(expected: NDArray[np.float32], answer: Answer) -> float:
    got = np.array(answer.vectors, dtype=np.float32)
    assert expected.shape == got.shape
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    return float((expected.astype(np.float64) * got).sum(axis=1).min())


def assert_distinct(vectors: NDArray[np.float32]) -> None:
    """Texts that differ must be told apart, or agreeing proves nothing."""
    cosines = vectors @ vectors.T - 2 * np.eye(len(vectors), dtype=np.float32)
    assert cosines.max() < 0.999


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("handler", "shape", "longest", "batch_invariant"),
    [
        (SentenceHandler, "minilm", 256, False),
        (SentenceHandler, "minilm", 256, True),
        (BgeHandler, "bge", 512, False),
        (BgeHandler, "bge", 512, True),
        (Tao8kHandler, "tao", 8192, False),
        # rows of 8,192 tokens at full height
        pytest.param(Tao8kHandler, "tao", 8192, True, marks=pytest.mark.slow),
    ],
)
def test_vectors_equal_sentence_transformers(
    handler: type[EmbeddingHandler],
    shape: str,
    longest: int,
    batch_invariant: bool,
    backend: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """One batch of all lengths from 1 token to the model's limit and above equals encoding one by one."""
    folder = minilm_folder() if shape == "minilm" else request.getfixturevalue(f"{shape}_folder")
    lengths = [3, 8, 64, 255, 256, 512, 2000, 8192, 9000]
    texts = [*SENTENCES, *(of_tokens(length) for length in lengths if length <= longest), of_tokens(longest + 300)]
    converted = request.getfixturevalue(f"{shape}_converted") if backend == "openvino" else None
    limits: dict[str, Any] = {"device": "cpu", "token_budget": 4096, "batch_invariant": batch_invariant}
    worker = Worker(handler(), unpack(tmp_path / "unpacked", folder, converted=converted, **limits))
    expected = reference(folder, texts)

    answer = worker.ask_one(json_body({"input": texts}))

    assert answer.status == 200
    assert least_cosine(expected, answer) >= 0.99999
    assert_distinct(expected[[0, 1, 2, 3, 4, 7]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_stays_close(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """bfloat16 on the CPU keeps a cosine of 0.999 with float32, on real weights, and shows that it is not float32."""
    converted = None
    if backend == "openvino":
        if not computes_bfloat16(flags()):
            pytest.skip("this processor does not multiply bfloat16")
        converted = request.getfixturevalue("minilm_converted")
    folder = unpack(tmp_path / "unpacked", minilm_folder(), converted=converted, device="cpu", dtype="bfloat16")
    worker = Worker(SentenceHandler(), folder)
    texts = [*SENTENCES[:5], of_tokens(200)]

    answer = worker.ask_one(json_body({"input": texts}))

    assert 0.999 <= least_cosine(reference(minilm_folder(), texts), answer) < 0.999999
    assert "bfloat16" in answer.headers["X-Embedkit-Fingerprint"]


def test_a_text_has_the_same_vector_in_any_company(minilm: Worker) -> None:
    """Across requests of a batch, each text's vector is its own, at its own place."""
    texts = [*SENTENCES[:5], of_tokens(100), of_tokens(20)]
    expected = reference(minilm_folder(), texts)

    answers = minilm.ask(*(json_body({"input": text}) for text in reversed(texts)))

    for vector, answer in zip(expected[::-1], answers, strict=True):
        assert least_cosine(vector[None], answer) >= 0.99999
