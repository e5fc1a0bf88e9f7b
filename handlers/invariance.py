"""Whether a text's vector has the same bits in any company on this machine: tried, not trusted.

That it holds is a property of the libraries' kernels and of the processor, so a worker that promises it looks: at
random batches of short texts, and at each width up to the longest in a pass as high as it can be.
"""

import random
import time
from collections.abc import Callable, Sequence

import numpy as np

from .encoding import Vectors
from .loading import LoadError
from .shapes import Shapes

_LENGTHS = (3, 5, 8, 9, 14, 16, 23, 31, 40, 57, 130)
_COMPOSITIONS = 6
_SECONDS = 5.0  # for the widths, in a worker's start
_SAMPLED = 3  # rows of a pass that are computed alone too

Embed = Callable[[Sequence[Sequence[int]]], Vectors]


def check_invariance(embed: Embed, ids: Sequence[int], shapes: Shapes, seconds: float = _SECONDS) -> tuple[int, int]:
    """How many of how many widths were tried within the seconds; `ids` are a text as long as one can be.

    Raises LoadError where a text in a batch gets other bits than alone.
    """
    chance = random.Random(0)  # noqa: S311 - compositions, not secrets
    texts = [list(ids[-length:]) for length in _LENGTHS if length <= len(ids)]
    alone = np.concatenate([embed([text]) for text in texts])
    for _ in range(_COMPOSITIONS):
        places = chance.choices(range(len(texts)), k=chance.randint(2, 24))
        _same(embed([texts[place] for place in places]), alone[places])

    widths = _widths(shapes, len(ids))
    until = time.monotonic() + seconds
    for tried, (width, shortest) in enumerate(widths):
        if tried and time.monotonic() > until:
            return tried, len(widths)
        height = max(rows for _, rows in shapes.passes(len(ids) * width, width))
        batch = [_rotated(ids, place)[: chance.randint(shortest, min(width, len(ids)))] for place in range(height)]
        places = sorted(chance.sample(range(height), min(_SAMPLED, height)))
        _same(embed(batch)[places], np.concatenate([embed([batch[place]]) for place in places]))
    return len(widths), len(widths)


def _widths(shapes: Shapes, longest: int) -> list[tuple[int, int]]:
    """(width, the shortest text that has it) of every width, the longest first, then by chance: whatever there is time
    for is spread over all."""
    shortest: dict[int, int] = {}
    for length in range(1, longest + 1):
        shortest.setdefault(shapes.rounded(length), length)
    *others, last = shortest.items()
    return [last, *random.Random(1).sample(others, len(others))]  # noqa: S311


def _rotated(ids: Sequence[int], by: int) -> list[int]:
    by %= len(ids)
    return [*ids[by:], *ids[:by]]


def _same(together: Vectors, alone: Vectors) -> None:
    if not np.array_equal(together, alone):
        raise LoadError(
            "batch_invariant = true, and on this machine a text's vector depends on its batch: leave it out in "
            "models.toml, or try threads = 1 or the other backend, and pack again"
        )
