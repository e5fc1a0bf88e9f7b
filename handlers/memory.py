"""Memory that a large batch has taken goes back to the system, where others may need it."""

import ctypes
from collections.abc import Callable

# What a batch of common size takes is kept for the next one: taking it anew costs a tenth of torch's time
# (docs/batching.md).
_LARGE_BYTES = 8 << 20


class Trimmer:
    """Has glibc give back what is free after a large batch, and once more after the next one: only then has TorchServe
    let go of the bodies of the large one. Without glibc it does nothing.
    """

    def __init__(self) -> None:
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._due = False

    def after(self, size: int) -> None:
        """A batch is done; `size` is about how many bytes came with it and went out."""
        large = size > _LARGE_BYTES
        if (large or self._due) and self._trim is not None:
            self._trim(0)
        self._due = large
