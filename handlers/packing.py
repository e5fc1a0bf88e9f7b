"""Which texts share a row: short ones one behind the other, so that hardly anything computed is padding.

A mask keeps each text to itself (padding.py). It is done for the shapes more than for the padding: with rows of nearly
one width, a batch of any composition comes down to the same few shapes, each of them large enough to be computed well.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

# The ways to make one vector of a text's tokens that are weighted sums of them, as sentence-transformers calls them:
# what can be done for a row that holds several texts.
WEIGHTED_SUMS = frozenset({"cls", "mean", "mean_sqrt_len_tokens"})


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Every index of `lengths` (tokens a text) in exactly one row of at most `capacity` tokens.

    A text longer than that has a row to itself. Best fit, the longest first: each goes where the least room is left
    behind it. Equal lengths keep their order; the plan depends on nothing else.
    """
    rows: list[list[int]] = []
    room: list[int] = []  # the distinct amounts of room that open rows have, ascending
    by_room: dict[int, list[list[int]]] = {}
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        at = bisect_left(room, length)
        if at == len(room):
            row, left = [index], capacity - length
            rows.append(row)
        else:
            before = room[at]
            row, left = by_room[before].pop(), before - length
            row.append(index)
            if not by_room[before]:
                del by_room[before], room[at]
        if left > 0:
            if left not in by_room:
                by_room[left] = []
                insort(room, left)
            by_room[left].append(row)
    return rows
