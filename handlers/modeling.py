"""Token ids → vectors: one batch, as few forward passes as the token budget allows."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from .batching import Chunk, plan
from .encoding import Vectors
from .loading import LoadedModel


class Embedder:
    """Computes L2-normalised float32 vectors with a loaded model on one device.

    `token_budget` is the padded tokens of one forward pass.
    """

    def __init__(self, model: LoadedModel, *, device: str, token_budget: int) -> None:
        self.dimensions = model.dimensions
        self._model = model
        self._device = torch.device(device)
        self._token_budget = token_budget

    @torch.inference_mode()
    def embed(self, ids: Sequence[Sequence[int]]) -> Vectors:
        """The vectors (n, dimensions) of n texts given as token ids, special tokens included, in their order.

        A row that is not finite means that the model cannot compute that text in its dtype.
        """
        if not ids:
            return np.empty((0, self.dimensions), dtype=np.float32)
        lengths = [len(each) for each in ids]
        chunks = plan(lengths, self._token_budget)
        # One copy back for the whole batch: on a GPU each copy waits for what was launched before it.
        computed = torch.cat([self._forward(*self._tensors(ids, lengths, chunk)) for chunk in chunks])
        vectors = torch.nn.functional.normalize(computed, p=2, dim=1).cpu().numpy()
        if len(ids) == 1:
            return vectors
        ordered: Vectors = np.empty_like(vectors)
        ordered[list(chain.from_iterable(chunk.indices for chunk in chunks))] = vectors
        return ordered

    def _tensors(
        self, ids: Sequence[Sequence[int]], lengths: Sequence[int], chunk: Chunk
    ) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (len(chunk.indices), chunk.width)
        real: NDArray[np.bool_] = np.arange(chunk.width) < np.array([[lengths[index]] for index in chunk.indices])
        padded = np.full(shape, self._model.pad_token_id, dtype=np.int64)
        padded[real] = np.fromiter(
            chain.from_iterable(ids[index] for index in chunk.indices), dtype=np.int64, count=int(real.sum())
        )
        return self._moved(torch.from_numpy(padded)), self._moved(torch.from_numpy(real.astype(np.int64)))

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        features: dict[str, torch.Tensor] = {"input_ids": input_ids, "attention_mask": attention_mask}
        features = self._model.transformer(features)
        # Pooling and what follows it are cheap: in float32 they lose nothing of what the transformer gave.
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in self._model.modules:
            features = module(features)
        return features["sentence_embedding"].float()
