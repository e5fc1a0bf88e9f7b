"""One connection and nothing else going on: what the way through the server adds to embedding a text alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from archives.progress import SILENT
from ops.bench.children import Children
from ops.bench.client import Target
from ops.bench.figures import Figures, Percentiles, figures, percentiles
from ops.bench.load import Load, closed_loop

# Served and in process take turns: what else the machine does in the meantime meets both.
BLOCK = 10


@dataclass(frozen=True)
class Latency1:
    """Seconds. `served` over HTTP, `alone` in process with as many threads as a worker, the same texts; `ratio` of the
    medians, `ratio_less_delay` the same with `max_batch_delay_s` taken off `served`, as a lone request may wait that
    long for company. `figures` counts what was sent.
    """

    served: Percentiles | None
    alone: Percentiles
    max_batch_delay_s: float
    ratio: float | None
    ratio_less_delay: float | None
    figures: Figures


def measure(target: Target, alone: Children, texts: Sequence[str], *, max_batch_delay_s: float) -> Latency1:
    """Embed each text over HTTP and in process (`alone`: one process), in turns."""
    seconds: list[float] = []
    loads: list[Load] = []
    alone.ask([texts[:BLOCK]], {"do": "alone"})  # the first ones pay for what is done once
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        loads.append(closed_loop(target, block, connections=1, progress=SILENT))
        seconds += alone.ask([block], {"do": "alone"})[0]["seconds"]
    return _compare(_joined(loads), seconds, max_batch_delay_s)


def _joined(loads: Sequence[Load]) -> Load:
    shots = tuple(shot for load in loads for shot in load.shots)
    return Load(shots, sum(load.seconds for load in loads), sum(load.cpu_s for load in loads), {})


def _compare(load: Load, seconds: Sequence[float], delay_s: float) -> Latency1:
    found = figures(load)
    in_process = percentiles(seconds)
    assert in_process is not None
    served = found.latency
    return Latency1(
        served=served,
        alone=in_process,
        max_batch_delay_s=delay_s,
        ratio=served.p50 / in_process.p50 if served else None,
        ratio_less_delay=(served.p50 - delay_s) / in_process.p50 if served else None,
        figures=found,
    )
