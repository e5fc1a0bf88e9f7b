"""Compare two environments, package by package."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from env.state import State


@dataclass(frozen=True)
class Difference:
    """`left` and `right` are versions; "" where one side has none."""

    what: str
    kind: Literal["missing", "added", "different"]
    left: str
    right: str


def without(state: State, tools: Mapping[str, str]) -> State:
    """The state without packages that stand in `tools` (the development lock) in that very version."""
    kept = {name: version for name, version in state.packages.items() if tools.get(name) != version}
    return replace(state, packages=kept)


def is_of(line: str, version: str) -> bool:
    """Whether a version belongs to a release line: 3.11.7 to 3.11, 11.0.30 to 11."""
    return version == line or version.startswith(f"{line}.")


def differences(left: State, right: State, *, lines: bool = False) -> Iterator[Difference]:
    """What `right` has that `left` has not, and the other way round.

    Args:
        lines: `left` names Python and the JDK by their release line, as the pins do.
    """
    for what in ("python", "jdk"):
        ours, theirs = getattr(left, what), getattr(right, what)
        if not (is_of(ours, theirs) if lines else ours == theirs):
            yield Difference(what, "different", ours, theirs)
    if left.torch_cuda != right.torch_cuda:
        builds = (f"CUDA {each.torch_cuda}" if each.torch_cuda else "CPU" for each in (left, right))
        yield Difference("torch build", "different", *builds)
    for name in sorted({*left.packages, *right.packages}):
        ours, theirs = left.packages.get(name, ""), right.packages.get(name, "")
        if ours == theirs:
            continue
        yield Difference(name, "different" if ours and theirs else "added" if theirs else "missing", ours, theirs)
