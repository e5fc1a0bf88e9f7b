"""How long the work on a batch may go on: one clock, looked at before every step that takes long."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .encoding import Vectors


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The moment so many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at


NEVER = Deadline(float("inf"))


class TimeUpError(Exception):
    """The deadline has passed before the work was done."""


class PartlyComputedError(TimeUpError):
    """The same, with what is done: the rows of `vectors` (n, dimensions) at `places`, for which `done` (n,) is true."""

    def __init__(self, vectors: Vectors, places: Sequence[int]) -> None:
        super().__init__(f"{len(places)} of {len(vectors)} texts were computed in time")
        self.vectors = vectors
        self.done = np.zeros(len(vectors), dtype=np.bool_)
        self.done[list(places)] = True
