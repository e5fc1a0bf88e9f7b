"""A sentence-transformers folder without its weights → its tokenizer, limits and shape.

For a backend that has the weights in a form of its own: the transformer is here in outline only (torch's meta
device), so that what handlers ask of a model can be asked, and nothing is computed.
"""

from pathlib import Path
from typing import Any

import orjson

from .loading import LoadedModel, LoadError, check_folder, described, quietly, settings_file


def load_outline(folder: Path) -> LoadedModel:
    """The model's outline; its `modules` are the pooling ones alone, and its `dimensions` the transformer's.

    Raises LoadError for a folder that is not complete, not trusted or not served by this kit.
    """
    modules = check_folder(folder)
    if not modules[0].kind.endswith(".Transformer"):
        raise LoadError(f"{folder}: the first module is {modules[0].kind}; a Transformer is needed")
    with quietly(folder):
        transformer = _transformer(modules[0].folder)
        from sentence_transformers.models import Pooling

        pooling = [Pooling.load(str(module.folder)) for module in modules if module.kind.endswith(".Pooling")]
    return described(folder, transformer, pooling, dimensions=int(transformer.get_word_embedding_dimension()))


def _transformer(folder: Path) -> Any:
    import torch
    from sentence_transformers.models import Transformer
    from transformers import AutoModel, T5Config, T5EncoderModel

    class Outline(Transformer):  # type: ignore[misc]
        def _load_model(self, model_name_or_path: str, config: Any, cache_dir: str | None) -> None:
            with torch.device("meta"):
                build = T5EncoderModel if isinstance(config, T5Config) else AutoModel.from_config
                self.auto_model = build(config)

    return Outline(str(folder), **orjson.loads(settings_file(folder).read_bytes()))
