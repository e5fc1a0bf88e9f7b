"""Lists of token ids → the arrays of one forward pass, and its vectors back to their places."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from .batching import Chunk
from .encoding import Vectors

Ids = NDArray[np.int64]


def padded(ids: Sequence[Sequence[int]], chunk: Chunk, pad_token_id: int) -> tuple[Ids, Ids | None]:
    """The chunk's token ids and attention mask, each (rows, width); no mask where nothing is padded.

    A dummy row repeats the first text: it is computed like any other, and nobody reads it.
    """
    rows = [ids[index] for index in chunk.indices]
    rows += rows[:1] * (chunk.rows - len(rows))
    if all(len(row) == chunk.width for row in rows):
        return np.array(rows, dtype=np.int64), None
    lengths = np.array([[len(row)] for row in rows])
    real = np.arange(chunk.width) < lengths
    filled = np.full(real.shape, pad_token_id, dtype=np.int64)
    filled[real] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    return filled, real.astype(np.int64)


def normalized(vectors: Vectors) -> Vectors:
    """The rows of (n, size) float32 vectors, each to length 1 in float32; what is not finite stays so."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    unit: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))[:, None]
    return unit
