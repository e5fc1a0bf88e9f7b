"""A benchmark in a line: what went wrong comes first."""

from collections.abc import Sequence

from ops.bench.contention import QUIET
from ops.bench.result import ProfileResult
from ops.bench.truth import Truth


def headline(
    model: str, profiles: Sequence[ProfileResult], truth: Truth, *, errors: int, refused: int, others: float
) -> str:
    """Errors and wrong vectors, if any; then texts a second and efficiency of each kind of text; then what to know."""
    parts = []
    if errors:
        parts.append(f"{errors} ERROR{'S' if errors > 1 else ''}")
    if truth.wrong:
        parts.append(f"{truth.wrong} of {truth.checked} checked vectors WRONG")
    parts += [
        f"{one.profile} {one.ceiling:.0f} texts a second, {one.efficiency:.2f} of the bound {one.bound.texts_per_s:.0f}"
        for one in profiles
    ]
    if refused:
        parts.append(f"{refused} refused at or above the ceiling")
    if others > QUIET:
        parts.append(f"other work took up to {others:.0%} of the cores meanwhile: do not quote this")
    return f"{model}: {'; '.join(parts)}"
