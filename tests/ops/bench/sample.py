"""A whole result with figures that are easy to find again."""

from dataclasses import replace

from ops.bench.bars import at_least
from ops.bench.bound import Bound, Timing
from ops.bench.figures import Figures, Percentiles
from ops.bench.latency1 import Latency1
from ops.bench.machine import Machine
from ops.bench.options import Options
from ops.bench.result import ClosedPoint, MemoryPoint, OpenPoint, Overload, PeerPoint, ProfileResult, Result
from ops.bench.stages import Stages
from ops.bench.truth import Truth

PHASE = Figures(
    sent=1000,
    answered=1000,
    outcomes={"200": 1000},
    seconds=4.0,
    texts_per_s=251.0,
    latency=Percentiles(0.0123, 0.0456, 0.0789, 0.321),
    late_p99_s=0.0011,
    client_cpu=0.07,
    refusals=0,
    slowest_refusal_s=None,
    examples={},
)
REFUSING = replace(
    PHASE,
    answered=900,
    refusals=100,
    outcomes={"200": 900, "503": 100},
    slowest_refusal_s=0.234,
    examples={"503": '{"message": "Model <minilm> has no worker"}'},
)

PROFILE = ProfileResult(
    profile="short",
    meaning="queries",
    tokens=Percentiles(17, 36, 41, 47),
    closed=[ClosedPoint(1, 77.0, [PHASE]), ClosedPoint(128, 251.0, [PHASE, PHASE])],
    bound=Bound("engine, a process a core", 279.0, 5013.0, {"engine, a process a core": 279.0, "plain": 245.0}),
    timings=[[Timing("engine, a process a core", 1000, 18000, 3.584, 384)]] * 2,
    efficiency=0.913,
    efficiencies=[0.91, 0.916],
    ceiling=251.0,
    tokens_per_s=4517.0,
    open=[OpenPoint(0.2, 50.2, PHASE), OpenPoint(1.0, 251.0, REFUSING)],
    overload=Overload(OpenPoint(1.2, 301.2, REFUSING), 1.275, [], answers_after=True),
    latency1=Latency1(Percentiles(0.0152, 0.02, 0.03, 0.04), Percentiles(0.0121, 0.013, 0.014, 0.02), 0.002, 1.256,
                      1.091, PHASE),
    stages=Stages(4.0, 2, {"decode": 0.1, "tokenize": 0.3, "forward": 6.8, "encode": 0.2},
                  {"decode": 0.0125, "tokenize": 0.0375, "forward": 0.85, "encode": 0.025}, 32, 1000, 18000, 31.25,
                  562.5, {"32.0": 32}),
)  # fmt: skip

RESULT = Result(
    headline="minilm: short 251 texts a second",
    errors=0,
    refused=200,
    others=0.02,
    requests=5000,
    started_at="2026-11-22T18:00:00+00:00",
    seconds=95.5,
    options=Options.short(seed=9),
    machine=Machine("a processor", 2, 25 << 30, (), "Linux", "3.11.7", {"torch": "2.13.0"}, "abc123+", 0.01, 0.2),
    service={"model": "minilm", "fingerprint": "minilm/1.0 rev=<x> torch float32 kit=0.1.0"},
    settings={"inference_port": 8080},
    profiles=[PROFILE],
    truth=Truth(120, 0, 0.999987, 0.999, "a text"),
    memory=[MemoryPoint(5000, 1 << 30)],
    memory_growth=None,
    peers=[PeerPoint("mosec", "short", 64, "batch 64, 10 ms", "bfloat16", PHASE, 344.0, 1.37)],
    peers_failed={"litserve": "it ended with status 3"},
    bars=[at_least("short: served over the in-process bound", 0.913, 0.9)],
)
