"""Lists of token ids → the arrays of one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from .batching import Chunk
from .encoding import Vectors

Ids = NDArray[np.int64]
# The places of a row are rounded up to so many, for fewer shapes.
_PLACES = 8


def padded(ids: Sequence[Sequence[int]], chunk: Chunk, pad_token_id: int) -> tuple[Ids, Ids | None]:
    """The ids and attention mask of a chunk of a text a row, each (rows, width); no mask where nothing is padded.

    A dummy row repeats the first text: it is computed like any other, and nobody reads it.
    """
    assert all(len(row) == 1 for row in chunk.rows)
    rows = [ids[index] for index in chunk.indices]
    rows += rows[:1] * (chunk.height - len(rows))
    if all(len(row) == chunk.width for row in rows):
        return np.array(rows, dtype=np.int64), None
    lengths = np.array([[len(row)] for row in rows])
    real = np.arange(chunk.width) < lengths
    filled = np.full(real.shape, pad_token_id, dtype=np.int64)
    filled[real] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    return filled, real.astype(np.int64)


@dataclass(frozen=True, slots=True)
class PackedRows:
    """A pass whose rows may hold several texts.

    `input_ids` and `position_ids` (rows, width), positions counted anew in each text. `mask` says which tokens see
    which, (rows, width, width), or (rows, 1, width) where no row holds more than one text. `pool` (rows, most texts of
    a row, width): the weight of each token in each text's vector. `seats`: where among all (rows * most texts)
    the texts of the chunk are, in the order of its `indices`.
    """

    input_ids: Ids
    position_ids: Ids
    mask: NDArray[np.bool_]
    pool: NDArray[np.float32]
    seats: Ids


def packed(
    ids: Sequence[Sequence[int]], chunk: Chunk, pad_token_id: int, padding_position: int | None, pooling: str
) -> PackedRows:
    """The arrays of a chunk. Dummy rows are all padding.

    Positions count from 0, or, as RoBERTa and its kin have it, from behind `padding_position`, which each token with
    that very id has instead (transformers 4.48.3, create_position_ids_from_input_ids).

    `pooling` as sentence-transformers calls it, one of packing.WEIGHTED_SUMS.
    """
    texts = [ids[index] for index in chunk.indices]
    lengths = np.array([len(text) for text in texts])
    held = np.array([len(row) for row in chunk.rows])
    row = np.repeat(np.arange(len(held)), held)
    place = np.arange(len(texts)) - np.repeat(np.cumsum(held) - held, held)
    before = np.cumsum(lengths) - lengths  # tokens of all texts before each
    first_of_row = before[np.cumsum(held) - held]
    start = row * chunk.width + before - np.repeat(first_of_row, held)
    within = np.arange(int(lengths.sum())) - np.repeat(before, lengths)
    at = np.repeat(start, lengths) + within

    shape = (chunk.height, chunk.width)
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)
    tokens = np.fromiter(chain.from_iterable(texts), dtype=np.int64, count=len(at))
    input_ids.reshape(-1)[at] = tokens
    position_ids = np.full(shape, padding_position or 0, dtype=np.int64)
    if padding_position is None:
        position_ids.reshape(-1)[at] = within
    else:
        counted = tokens != padding_position
        total = np.cumsum(counted)
        ahead = np.concatenate(([0], total))[before]
        position_ids.reshape(-1)[at] = (total - np.repeat(ahead, lengths)) * counted + padding_position
    whose = np.zeros(shape, dtype=np.int16)  # 0: nobody's
    whose.reshape(-1)[at] = np.repeat(place + 1, lengths)

    most = int(held.max())
    if most == 1:
        mask = (whose != 0)[:, None, :]
        mask[len(held) :] = True  # of a dummy row: a softmax over nothing is not finite
    else:
        mask = whose[:, :, None] == whose[:, None, :]
        most = -(-most // _PLACES) * _PLACES
    seats = row * most + place
    pool = np.zeros((chunk.height, most, chunk.width), dtype=np.float32)
    if pooling == "cls":
        pool.reshape(-1)[seats * chunk.width + start % chunk.width] = 1.0
    else:
        weights = 1 / lengths if pooling == "mean" else 1 / np.sqrt(lengths)
        pool.reshape(-1)[np.repeat(seats * chunk.width, lengths) + at % chunk.width] = np.repeat(weights, lengths)
    return PackedRows(input_ids, position_ids, mask, pool, seats)


def normalized(vectors: Vectors) -> Vectors:
    """The rows of (n, size) float32 vectors, each to length 1 in float32; what is not finite stays so."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    unit: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))[:, None]
    return unit
