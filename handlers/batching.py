"""Which texts share a forward pass, and in which shape: planning alone, no tensors.

A forward pass costs what its padded size costs, and something beside that, whatever its size. So rows of similar
length go together, short ones rather padded than given a pass of their own, and no pass takes more padded tokens
than the budget. A row longer than the budget makes a pass of its own. A row is one text, or where the backend can
tell them apart, several short ones (packing.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from .packing import pack
from .shapes import Shapes

# A run of lengths with so many passes' worth of padding in it is better cut somewhere: longer ones are not looked at.
_MOST_PADDING = 10


@dataclass(frozen=True, slots=True)
class Chunk:
    """One forward pass: the texts of each row by their places in the batch, the tokens a row, and the rows computed,
    dummies included.
    """

    rows: list[list[int]]
    width: int
    height: int

    @property
    def indices(self) -> list[int]:
        """The texts, row by row."""
        return list(chain.from_iterable(self.rows))

    @property
    def padded_tokens(self) -> int:
        return self.width * self.height


def plan(lengths: Sequence[int], shapes: Shapes) -> list[Chunk]:
    """Every index of `lengths` (tokens a text) in exactly one chunk, the longest rows first.

    Longest first, so that what needs most memory fails first, before time is spent on the rest. Within a
    chunk the order of rows is by length, equal lengths in the order given: the plan depends on nothing else.
    """
    if len(lengths) == 1:
        (length,) = lengths
        width = length if shapes.exact else shapes.rounded(length)
        return [Chunk([[0]], width, shapes.passes(1, width)[0][1])]
    if shapes.shared_rows and lengths:
        rows = pack(lengths, shapes.shared_row(max(lengths)))
    else:
        rows = [[index] for index in range(len(lengths))]
    filled = [sum(lengths[index] for index in row) for row in rows]
    order = sorted(range(len(rows)), key=lambda row: -filled[row])
    widths, counts = _groups([filled[row] for row in order], shapes)
    ends = range(1, len(widths) + 1) if shapes.uniform else _cheapest_cuts(widths, counts, shapes)
    chunks: list[Chunk] = []
    first = start = 0
    for end in ends:
        for taken, height in shapes.passes(sum(counts[first:end]), widths[first]):
            longest = filled[order[start]]
            width = longest if shapes.exact else shapes.rounded(longest)
            chunks.append(Chunk([rows[row] for row in order[start : start + taken]], width, height))
            start += taken
        first = end
    return chunks


def _groups(falling: Sequence[int], shapes: Shapes) -> tuple[list[int], list[int]]:
    """Lengths of rows, longest first, as (rounded widths, how many rows of each)."""
    rounded = {length: shapes.rounded(length) for length in set(falling)}
    grouped = [(width, sum(1 for _ in rows)) for width, rows in groupby(falling, rounded.__getitem__)]
    return [width for width, _ in grouped], [count for _, count in grouped]


def _cheapest_cuts(widths: Sequence[int], counts: Sequence[int], shapes: Shapes) -> list[int]:
    """The ends of the runs of groups that are cheapest to compute together."""
    best = [0] * (len(widths) + 1)  # of the groups from here on
    ends = [0] * len(widths)
    for first in reversed(range(len(widths))):
        rows, padding, cheapest = 0, 0, None
        for last in range(first, len(widths)):
            rows += counts[last]
            padding += counts[last] * (widths[first] - widths[last])
            if padding > _MOST_PADDING * shapes.pass_cost:
                break
            cost = shapes.cost(rows, widths[first]) + best[last + 1]
            if cheapest is None or cost < cheapest:
                cheapest, ends[first] = cost, last + 1
        assert cheapest is not None
        best[first] = cheapest
    cuts, at = [], 0
    while at < len(widths):
        at = ends[at]
        cuts.append(at)
    return cuts
