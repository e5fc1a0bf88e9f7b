"""Which backends and dtypes may be tried for a model on this machine, the fastest first.

The orders are measured (docs/batching.md has the figures), not tried out each time: what is packed must not depend on
what else the machine was doing. Without torch: the processor and the installed packages say enough.
"""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass

from archives.catalogue import ModelSpec
from archives.errors import PackError
from env.hardware import detect
from handlers.processor import computes_bfloat16, flags

# The least cosine with float32 that may be served.
BARS: Mapping[str, float] = {"float32": 0.99999, "bfloat16": 0.999, "float16": 0.999}

# What the processor has of these may change what is computed, and how fast.
_TELLING = frozenset({"avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_tile"})


@dataclass(frozen=True)
class Candidate:
    """A way to compute a model."""

    backend: str
    dtype: str


@dataclass(frozen=True)
class Machine:
    """What the choice depends on: the processor's telling features, OpenVINO's presence, the GPUs that are used."""

    features: frozenset[str]
    openvino: bool
    gpus: tuple[str, ...] = ()

    def describe(self) -> list[object]:
        return [sorted(self.features), self.openvino, list(self.gpus)]


_CPU = (
    Candidate("openvino", "bfloat16"),
    Candidate("torch", "bfloat16"),
    Candidate("openvino", "float32"),
    Candidate("torch", "float32"),
)
# As fast as each other on a GPU that has both; float16 keeps more digits and overflows at 65504.
_GPU = (Candidate("torch", "bfloat16"), Candidate("torch", "float16"), Candidate("torch", "float32"))


def look(*, on_gpu: bool) -> Machine:
    """This machine."""
    try:
        importlib.metadata.version("openvino")
        openvino = True
    except importlib.metadata.PackageNotFoundError:
        openvino = False
    gpus = tuple(gpu.name for gpu in detect().gpus) if on_gpu else ()
    return Machine(flags() & _TELLING, openvino, gpus)


def candidates(spec: ModelSpec, machine: Machine) -> list[Candidate]:
    """What models.toml allows and this machine has, the fastest first; never empty.

    Raises:
        PackError: it asks for what is not here.
    """
    on_gpu = bool(machine.gpus) or spec.device == "cuda"
    if spec.backend == "openvino" and not machine.openvino:
        raise PackError(
            f"{spec.name}: backend = 'openvino', which is not installed here (it comes with TORCH=cpu): install that, "
            "or set backend = 'torch' in models.toml"
        )
    bfloat16 = on_gpu or computes_bfloat16(machine.features)
    if spec.dtype == "bfloat16" and not bfloat16 and spec.backend == "openvino":
        raise PackError(
            f"{spec.name}: dtype = 'bfloat16' with OpenVINO, and this processor has neither avx512_bf16 nor amx_bf16: "
            "set dtype = 'auto' or 'float32' in models.toml"
        )
    asked = [
        one
        for one in (_GPU if on_gpu else _CPU)
        if spec.backend in {"auto", one.backend} and spec.dtype in {"auto", one.dtype}
    ]
    here = [
        one
        for one in asked
        if (one.backend == "torch" or machine.openvino)
        and (one.dtype != "bfloat16" or bfloat16 or (one.backend == "torch" and spec.dtype == "bfloat16"))
    ]
    if not here:
        raise PackError(
            f"{spec.name}: backend = {spec.backend!r} with dtype = {spec.dtype!r} is nothing for this machine "
            f"({'a GPU' if on_gpu else 'no GPU'} is used): set one of them to 'auto' in models.toml"
        )
    return here
