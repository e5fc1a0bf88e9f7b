"""Which texts share a forward pass: planning alone, no tensors.

A forward pass costs what its padded size costs, so texts of similar length go together and no pass takes
more padded tokens than the budget. A text longer than the budget makes a pass of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# A chunk ends once this much of it is padding, but not before it is worth a pass of its own: a pass has a
# fixed cost too, and a few short texts are cheaper together, padding and all.
_MAX_PADDING = 0.04
_WORTH_A_PASS = 1 / 8


@dataclass(frozen=True, slots=True)
class Chunk:
    """The texts of one forward pass: their places in the batch, and the longest one's tokens."""

    indices: list[int]
    width: int

    @property
    def padded_tokens(self) -> int:
        return self.width * len(self.indices)


def plan(lengths: Sequence[int], token_budget: int) -> list[Chunk]:
    """Every index of `lengths` (tokens a text) in exactly one chunk, the longest texts first.

    Longest first, so that what needs most memory fails first, before time is spent on the rest. Within a
    chunk the order is by length, equal lengths in the order given: the plan depends on nothing else.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    chunks: list[Chunk] = []
    start = 0
    while start < len(order):
        width = lengths[order[start]]
        end = _end_of_chunk([lengths[index] for index in order[start : start + token_budget // width]], token_budget)
        chunks.append(Chunk(order[start : start + end], width))
        start += end
    return chunks


def padding_share(lengths: Sequence[int], chunks: Sequence[Chunk]) -> float:
    """The part of the computed tokens that is padding, 0 to 1."""
    computed = sum(chunk.padded_tokens for chunk in chunks)
    return 1 - sum(lengths) / computed if computed else 0.0


def _end_of_chunk(falling: Sequence[int], token_budget: int) -> int:
    """How many of these lengths, longest first and all within the budget, make one chunk; at least one."""
    padding = 0
    for count, length in enumerate(falling):
        padding += falling[0] - length
        padded = falling[0] * (count + 1)
        if padding > _MAX_PADDING * padded and padded - falling[0] >= _WORTH_A_PASS * token_budget:
            return count
    return max(1, len(falling))
