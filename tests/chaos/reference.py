"""What is right: minilm's vectors by plain sentence-transformers in float32, in this process."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.model_folders import minilm_folder


@cache
def _model() -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm_folder()), device="cpu")


def plain_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """(texts, 384) float32, L2-normalised."""
    if not texts:
        return np.empty((0, 384), dtype=np.float32)
    vectors: NDArray[np.float32] = _model().encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return vectors
