import base64

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from handlers.encoding import answer, cut, refuse_oversized
from handlers.errors import TooLargeError
from handlers.protocol import EncodingFormat

FORMATS: list[EncodingFormat] = ["float", "base64"]


def unit_vectors(count: int, size: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(3).standard_normal((count, size), dtype=np.float32)
    vectors: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return vectors


@pytest.mark.parametrize("encoding_format", FORMATS)
def test_vectors_come_back_bit_for_bit(encoding_format: EncodingFormat) -> None:
    """Both formats carry exactly the float32 values."""
    vectors = unit_vectors(3, 17)

    body = orjson.loads(answer(vectors, encoding_format, model="m", tokens=9, max_bytes=10_000))

    embeddings = [item["embedding"] for item in body["data"]]
    if encoding_format == "base64":
        embeddings = [np.frombuffer(base64.b64decode(text), dtype="<f4") for text in embeddings]
    assert (np.array(embeddings, dtype=np.float32) == vectors).all()
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    assert body["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert (body["object"], body["model"]) == ("list", "m")


def test_cut_vectors_are_unit_vectors_again() -> None:
    """The first columns, normalised; all columns are left alone."""
    vectors = unit_vectors(4, 16)

    shorter = cut(vectors, 5)

    assert shorter.shape == (4, 5)
    assert shorter.flags.c_contiguous
    assert shorter.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(shorter, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        shorter * np.linalg.norm(vectors[:, :5], axis=1, keepdims=True), vectors[:, :5], atol=1e-6
    )
    assert cut(vectors, 16) is vectors
    assert cut(vectors, None) is vectors


def test_a_vector_that_is_cut_to_nothing_stays_finite() -> None:
    """Where the first columns are all zero there is no direction, and no NaN either."""
    vectors = np.array([[0, 0, 1]], dtype=np.float32)

    assert cut(vectors, 2).tolist() == [[0, 0]]


@pytest.mark.parametrize("encoding_format", FORMATS)
def test_an_answer_over_the_limit_is_refused(encoding_format: EncodingFormat) -> None:
    """Its exact size passes, one byte less does not."""
    vectors = unit_vectors(2, 8)
    size = len(answer(vectors, encoding_format, model="m", tokens=1, max_bytes=10_000))

    assert len(answer(vectors, encoding_format, model="m", tokens=1, max_bytes=size)) == size
    with pytest.raises(TooLargeError, match=rf"{size - 1} bytes \(max_answer_bytes\).*dimensions"):
        answer(vectors, encoding_format, model="m", tokens=1, max_bytes=size - 1)


@pytest.mark.parametrize("encoding_format", FORMATS)
@pytest.mark.parametrize("dimensions", [1, 2, 3, 384])
def test_what_could_fit_is_not_refused_before_it_is_computed(encoding_format: EncodingFormat, dimensions: int) -> None:
    """The estimate never lies above the shortest real answer, and refuses ten times the limit."""
    vectors = np.zeros((5, dimensions), dtype=np.float32)
    size = len(answer(vectors, encoding_format, model="m", tokens=1, max_bytes=100_000))

    refuse_oversized(5, dimensions, encoding_format, max_bytes=size)
    with pytest.raises(TooLargeError):
        refuse_oversized(size * 10, dimensions, encoding_format, max_bytes=size)
