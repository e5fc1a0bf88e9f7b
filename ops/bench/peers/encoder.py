"""What the servers without a model of their own serve: SentenceTransformer.encode, as their users write it."""

import base64
import os
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer


class Encoder:
    """The model in PEER_MODEL, in PEER_DTYPE, one thread a process: there is a process a core."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        model = SentenceTransformer(os.environ["PEER_MODEL"], device="cpu").eval()
        self._model = model.to(getattr(torch, os.environ["PEER_DTYPE"]))

    def answers(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """One answer a text, in the form that all servers of the comparison are asked for: base64 of float32."""
        vectors = self._model.encode(
            list(texts), normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
        )
        encoded = (base64.b64encode(vector.tobytes()).decode("ascii") for vector in vectors.float().cpu().numpy())
        return [{"data": [{"embedding": vector}]} for vector in encoded]
