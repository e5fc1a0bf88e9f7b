"""A sentence-transformers folder without its weights → its tokenizer, limits and shape.

For a backend that has the weights in a form of its own: the transformer is here in outline only (torch's meta
device), so that what handlers ask of a model can be asked, and nothing is computed.
"""

from pathlib import Path
from typing import Any

from .loading import LoadedModel, described, quietly, transformer_of
from .model_folder import POOLING, check_folder


def load_outline(folder: Path) -> LoadedModel:
    """The model's outline; its `modules` are the pooling ones alone, and its `dimensions` the transformer's.

    Raises LoadError for a folder that is not complete, not trusted or not served by this kit.
    """
    first, *rest = check_folder(folder)
    with quietly(folder):
        transformer = transformer_of(folder / first.path, _outline)
        from sentence_transformers.models import Pooling

        pooling = [Pooling.load(str(folder / module.path)) for module in rest if module.type == POOLING]
    return described(folder, transformer, pooling, dimensions=int(transformer.get_word_embedding_dimension()))


def _outline(kind: Any, path: str, config: Any) -> Any:
    import torch

    with torch.device("meta"):
        return (kind.from_config if hasattr(kind, "from_config") else kind)(config)
