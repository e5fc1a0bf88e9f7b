"""A run of the GPU check with figures that are easy to find again."""

import argparse
from dataclasses import replace

from ops.bench.bound import Timing
from ops.bench.gpu import sampler
from ops.bench.gpu.plan import PROFILES
from ops.bench.gpu.run import parser
from ops.bench.gpu.shape import FULL
from ops.bench.gpu.stages import Measured, Point, Profiled
from ops.bench.result import PeerPoint
from ops.bench.truth import Truth
from tests.ops.bench.sample import PHASE, PROFILE

GPU = {"usage": sampler.Usage(40, 0.97, 0.93, 612.0, 1755.0, 1700, 9 << 30)}


def arguments(*words: str) -> argparse.Namespace:
    return parser().parse_args(["--site", "s", "--seconds", "500", "--out", "o", "--device", *words])


def measured(served: float = 1200.0) -> Measured:
    """A run on a GPU: short texts and long ones, served and in process."""
    found = Measured()
    found.product = {
        "size": 8192,
        "dtype": "bfloat16",
        "flops_per_s": 800e12,
        "rounds": [800e12],
        "name": "G",
        "torch": "2",
    }
    figures = replace(PHASE, texts_per_s=served)
    for profile in PROFILES:
        flops = FULL.flops(512 if profile == "long" else 16)
        timings = [Timing("engine, a process a GPU", 1000, 1, 1000 / 1250.0, None)]
        found.profiles[profile] = Profiled(PROFILE.tokens, flops, [Point(64, figures, PROFILE.stages, GPU)], timings)
    found.parity = Truth(45, 0, 0.99987, 0.999, "a text")
    found.peers = [
        PeerPoint(
            "infinity", "long", 256, "bfloat16", "bfloat16", replace(PHASE, texts_per_s=400.0), served, served / 400
        )
    ]
    return found
