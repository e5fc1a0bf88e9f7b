"""Token ids → vectors by torch: one batch, few forward passes, one copy back."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from .batching import Chunk, plan
from .deadline import NEVER, Deadline, PartlyComputedError
from .encoding import Vectors
from .forward import PackedPipeline, Pipeline
from .loading import LoadedModel
from .padding import packed, padded
from .shapes import Shapes


class TorchEmbedder:
    """Computes L2-normalised float32 vectors with a loaded model on one device, in passes of these shapes."""

    def __init__(self, model: LoadedModel, *, device: str, shapes: Shapes) -> None:
        self.dimensions = model.dimensions
        self._model = model
        self._packs = bool(shapes.shared_rows)
        self._pipeline = (PackedPipeline if self._packs else Pipeline)(model).eval()
        self._device = torch.device(device)
        self.shapes = shapes
        self.computed_tokens = 0

    @torch.inference_mode()
    def embed(self, ids: Sequence[Sequence[int]], deadline: Deadline = NEVER) -> Vectors:
        """The vectors (n, dimensions) of n texts given as token ids, special tokens included, in their order.

        A row that is not finite means that the model cannot compute that text in its dtype. Raises
        PartlyComputedError where the deadline passes before the last pass is begun.
        """
        if not ids:
            return np.empty((0, self.dimensions), dtype=np.float32)
        chunks = plan([len(each) for each in ids], self.shapes)
        compute = self._packed if self._packs else self._padded
        computed: list[torch.Tensor] = []
        for chunk in chunks:
            if deadline.passed:
                break
            computed.append(compute(ids, chunk))
            self.computed_tokens += chunk.padded_tokens
        if not computed:
            raise PartlyComputedError(np.empty((len(ids), self.dimensions), dtype=np.float32), [])
        together = computed[0] if len(computed) == 1 else torch.cat(computed)
        # One copy back for the whole batch: on a GPU each copy waits for what was launched before it.
        unit: Vectors = torch.nn.functional.normalize(together, p=2, dim=1).cpu().numpy()
        if len(ids) == 1:
            return unit
        places = list(chain.from_iterable(chunk.indices for chunk in chunks[: len(computed)]))
        ordered: Vectors = np.empty((len(ids), unit.shape[1]), dtype=np.float32)
        ordered[places] = unit
        if len(computed) < len(chunks):
            raise PartlyComputedError(ordered, places)
        return ordered

    def _packed(self, ids: Sequence[Sequence[int]], chunk: Chunk) -> torch.Tensor:
        rows = packed(ids, chunk, self._model.pad_token_id, self._model.padding_position, self._model.pooling)
        arrays = (rows.input_ids, rows.position_ids, rows.mask, rows.pool)
        vectors: torch.Tensor = self._pipeline(*(self._moved(array) for array in arrays))
        return vectors[rows.seats]

    def _padded(self, ids: Sequence[Sequence[int]], chunk: Chunk) -> torch.Tensor:
        input_ids, mask = padded(ids, chunk, self._model.pad_token_id)
        if mask is None and self.shapes.uniform:
            mask = np.ones_like(input_ids)  # another kernel computes without one, and a neighbour may need it
        vectors: torch.Tensor = self._pipeline(self._moved(input_ids), None if mask is None else self._moved(mask))
        return vectors[: len(chunk.rows)]

    def _moved(self, array: NDArray[np.generic]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)
