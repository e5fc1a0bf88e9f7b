"""How the kernel shares the cores among JVM, workers and whoever else is there."""

import contextlib
import os


def as_a_batch() -> None:
    """Have this process, and all it starts, scheduled as a batch job (SCHED_BATCH), where that may be chosen.

    What wakes up then waits for a slice to end and does not interrupt who computes: the JVM handles several requests at
    a time instead of breaking into a forward pass for each (docs/torchserve.md has the figures).
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
