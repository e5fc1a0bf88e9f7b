"""What the figures come to: the targets, and the run in a line, what went wrong first. Pure."""

from collections.abc import Mapping

from ops.bench.bars import Bar, at_least
from ops.bench.bound import best
from ops.bench.gpu.plan import Plan
from ops.bench.gpu.shape import utilisation
from ops.bench.gpu.stages import Measured, Profiled, efficiency

# Targets, of a model of bge-large-zh's shape on one data-centre GPU.
UTILISATION_LONG = 0.5
EFFICIENCY = 0.9
SHORT_TEXTS_PER_S = 5000.0


def used(found: Measured, one: Profiled, texts_per_s: float) -> float | None:
    """The part of the measured matrix product's rate; None where that is not known."""
    if found.product is None:
        return None
    return utilisation(texts_per_s, one.flops_per_text, found.product["flops_per_s"])


def bars(plan: Plan, found: Measured) -> list[Bar]:
    """The targets, as far as there are figures; none on a CPU or for the small model."""
    if not plan.judged:
        return []
    made = []
    for profile, one in found.profiles.items():
        if not one.points:
            continue
        served = one.best.figures.texts_per_s
        part = used(found, one, served)
        if profile == "long" and part is not None:
            made.append(at_least("512 tokens: part of the matrix product's rate", part, UTILISATION_LONG))
        if profile == "short":
            made.append(at_least("short: texts a second", served, SHORT_TEXTS_PER_S))
        ratio = efficiency(one)
        if ratio is not None:
            made.append(at_least(f"{profile}: served over the in-process bound", ratio, EFFICIENCY))
    return made


def headline(plan: Plan, found: Measured, failed: Mapping[str, str]) -> str:
    """Failed stages, errors and wrong vectors, if any; then the figures; then what to know."""
    parts = []
    if failed:
        parts.append(f"FAILED: {', '.join(failed)}")
    if found.errors:
        parts.append(f"{found.errors} ERROR{'S' if found.errors > 1 else ''}")
    if found.wrong:
        parts.append(f"{found.wrong} compared vectors WRONG")
    parts += [_in_words(found, profile, one) for profile, one in found.profiles.items() if one.points]
    answered = [point.ratio for point in found.peers if point.figures.answered]
    if answered:
        parts.append(f"{min(answered):.1f} times infinity or more")
    if silent := len(found.peers) - len(answered):
        parts.append(f"infinity answered nothing in {silent} of {len(found.peers)} loops")
    if found.parity and found.parity.min_cosine is not None:
        parts.append(f"cosine with float32 at least {found.parity.min_cosine:.5f}")
    if not plan.judged:
        parts.append(f"on {plan.device}{', a small model' if plan.small else ''}: a trial of the script, no GPU figure")
    return "; ".join(parts)


def _in_words(found: Measured, profile: str, one: Profiled) -> str:
    served = one.best.figures.texts_per_s
    words = f"{profile} {served:.0f} texts a second"
    if (ratio := efficiency(one)) is not None:
        words += f", {ratio:.2f} of the bound {best(one.timings).texts_per_s:.0f}"
    if (part := used(found, one, served)) is not None:
        words += f", {part:.1%} of the matrix product's rate"
    return words
