"""Whether a text's vector has the same bits in any company on this machine: tried, not trusted.

That it holds is a property of the libraries' kernels and of the processor, so a worker that promises it looks.
"""

import random
from collections.abc import Callable, Sequence

import numpy as np

from .encoding import Vectors
from .loading import LoadError

_LENGTHS = (3, 5, 8, 9, 14, 16, 23, 31, 40, 57, 130)
_COMPOSITIONS = 6


def check_invariance(embed: Callable[[Sequence[Sequence[int]]], Vectors], ids: Sequence[int]) -> None:
    """Raises LoadError where a text in a batch gets other bits than alone; `ids` are one long text's."""
    texts = [list(ids[-length:]) for length in _LENGTHS if length <= len(ids)]
    alone = np.concatenate([embed([text]) for text in texts])
    chance = random.Random(0)  # noqa: S311 - compositions, not secrets
    for _ in range(_COMPOSITIONS):
        places = chance.choices(range(len(texts)), k=chance.randint(2, 24))
        if not np.array_equal(embed([texts[place] for place in places]), alone[places]):
            raise LoadError(
                "batch_invariant = true, and on this machine a text's vector depends on its batch: leave it out in "
                "models.toml, or try threads = 1 or the other backend, and pack again"
            )
