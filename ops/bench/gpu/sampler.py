"""What the GPU did over a stretch of time, as NVML tells it, sampled by a thread."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import pynvml

from ops.bench.figures import percentile

EVERY_S = 0.2
# NVML's share of busy time is over the moments before, at most so many seconds.
LOOKS_BACK_S = 1.0


@dataclass(frozen=True)
class Reading:
    """At one moment (time.monotonic): the share of the last moments in which any kernel ran (0 to 1), watts, the SM
    clock in MHz, bytes of memory in use.
    """

    at: float
    busy: float
    watts: float
    clock_mhz: int
    memory: int


@dataclass(frozen=True)
class Usage:
    """Readings put together: means, the least and most of some, the tenth percentile of `busy`."""

    readings: int
    busy: float
    busy_p10: float
    watts: float
    clock_mhz: float
    clock_mhz_least: int
    memory_most: int


@dataclass
class Watched:
    """All readings of a watch; `error` is what ended them before it did."""

    error: str = ""
    readings: list[Reading] = field(default_factory=list)


def together(readings: Sequence[Reading]) -> Usage | None:
    """None without readings."""
    if not readings:
        return None
    return Usage(
        readings=len(readings),
        busy=fmean(one.busy for one in readings),
        busy_p10=percentile([one.busy for one in readings], 0.1),
        watts=fmean(one.watts for one in readings),
        clock_mhz=fmean(one.clock_mhz for one in readings),
        clock_mhz_least=min(one.clock_mhz for one in readings),
        memory_most=max(one.memory for one in readings),
    )


@contextlib.contextmanager
def watch(uuid: str | None) -> Iterator[Watched]:
    """Over the block, the GPU of this UUID; without one, nothing is asked of NVML."""
    seen = Watched()
    if uuid is None:
        seen.error = "no GPU"
        yield seen
        return
    done = threading.Event()
    thread = threading.Thread(target=_sample, args=(uuid, seen, done), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join(5)


def _sample(uuid: str, seen: Watched, done: threading.Event) -> None:
    try:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            while not done.wait(EVERY_S):
                seen.readings.append(_read(handle))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:  # told in the report: a figure that is missing is not a figure of 0
        seen.error = str(error)


def _read(handle: object) -> Reading:
    return Reading(
        at=time.monotonic(),
        busy=pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        watts=pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        clock_mhz=int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).used),
    )


def as_json(seen: Watched, begin: float, end: float) -> Mapping[str, object]:
    """For the result: the usage between two moments (time.monotonic), or why there is none. What is watched is longer
    than the load in it, and idle before and after.
    """
    usage = together([one for one in seen.readings if begin + LOOKS_BACK_S <= one.at <= end])
    if usage is not None:
        return {"usage": usage}
    return {"usage": None, "error": seen.error or f"no reading later than {LOOKS_BACK_S:g} s into the load"}
