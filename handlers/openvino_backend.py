"""Token ids → vectors by OpenVINO on the CPU, from the model that was converted when the archive was packed."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batching import Chunk, plan
from .card import Dtype
from .deadline import NEVER, Deadline, PartlyComputedError
from .encoding import Vectors
from .loading import LoadedModel, LoadError
from .padding import normalized, packed, padded
from .processor import computes_bfloat16, flags
from .shapes import Shapes

CONVERTED = "openvino/model.xml"

# So many has a model that was converted for rows of several texts: ids, positions, mask, pool. Others: ids and mask.
PACKED_INPUTS = 4
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def import_openvino() -> Any:
    """The openvino package, its telemetry left out: it would write a file into the home folder and call its maker."""
    # Without that package it takes a stand-in of its own that does nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise LoadError(
            f"backend = 'openvino', and it does not load here ({error}): it comes with TORCH=cpu; "
            "install that, or set backend = 'torch' in models.toml and pack again"
        ) from error
    return openvino


class OpenVinoEmbedder:
    """Computes L2-normalised float32 vectors with a converted model, in passes of the shapes for one that can or cannot
    compute rows of several texts.

    `threads` compute; `warm_up` prepares for single short texts. Raises LoadError where OpenVINO or the file is
    not there, or this processor does not compute in `dtype`.
    """

    def __init__(
        self, path: Path, model: LoadedModel, *, dtype: Dtype, threads: int, shapes: Callable[[bool], Shapes]
    ) -> None:
        if dtype == "bfloat16" and not computes_bfloat16(flags()):
            raise LoadError(
                "dtype = 'bfloat16' with OpenVINO, and this processor does not multiply bfloat16 (no avx512_bf16, no "
                "amx_bf16): pack the model on such a machine, or set dtype = 'float32' in models.toml"
            )
        compiled = _compiled(path, _PRECISIONS[dtype], threads)
        self.dimensions = int(compiled.output(0).partial_shape[-1].get_length())
        self._request = compiled.create_infer_request()
        self._tensor = import_openvino().Tensor
        self._model = model
        packs = len(compiled.inputs) == PACKED_INPUTS  # how it was converted (archives/trial.py) decides
        self.shapes = shapes(packs)
        self._compute = self._packed if packs else self._padded
        self.computed_tokens = 0

    def embed(self, ids: Sequence[Sequence[int]], deadline: Deadline = NEVER) -> Vectors:
        """The vectors (n, dimensions) of n texts given as token ids, special tokens included, in their order.

        A row that is not finite means that the model cannot compute that text in its dtype. Raises
        PartlyComputedError where the deadline passes before the last pass is begun.
        """
        vectors: Vectors = np.empty((len(ids), self.dimensions), dtype=np.float32)
        if not ids:
            return vectors
        places: list[int] = []
        for chunk in plan([len(each) for each in ids], self.shapes):
            if deadline.passed:
                vectors[places] = normalized(vectors[places])
                raise PartlyComputedError(vectors, places)
            vectors[chunk.indices] = self._compute(ids, chunk)
            self.computed_tokens += chunk.padded_tokens
            places += chunk.indices
        return normalized(vectors)

    def _packed(self, ids: Sequence[Sequence[int]], chunk: Chunk) -> Vectors:
        rows = packed(ids, chunk, self._model.pad_token_id, self._model.padding_position, self._model.pooling)
        return self._infer(rows.input_ids, rows.position_ids, rows.mask, rows.pool)[rows.seats]

    def _padded(self, ids: Sequence[Sequence[int]], chunk: Chunk) -> Vectors:
        input_ids, mask = padded(ids, chunk, self._model.pad_token_id)
        return self._infer(input_ids, np.ones_like(input_ids) if mask is None else mask)[: len(chunk.rows)]

    def _infer(self, *arrays: NDArray[Any]) -> Vectors:
        """The model's output, valid until the next call."""
        for place, array in enumerate(arrays):
            # Set one by one: handed to infer() together, looking at what they are takes as long as a tenth of a pass.
            self._request.set_input_tensor(place, self._tensor(array, shared_memory=True))
        self._request.infer()
        output: Vectors = self._request.get_output_tensor(0).data
        return output


def _compiled(path: Path, precision: str, threads: int) -> Any:
    openvino = import_openvino()
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Workers do not know of each other: each would pin its thread to the same first core.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise LoadError(f"{path}: OpenVINO cannot load it ({_first_line(error)}); pack the model again") from error
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != precision:
        raise LoadError(f"OpenVINO computes in {taken} here, not in {precision}: pack the model on this machine")
    return compiled


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
