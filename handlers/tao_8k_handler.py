"""Serves amu/tao-8k: texts of up to 8192 tokens, by memory-saving attention only."""

import logging

from .base import EmbeddingHandler
from .loading import LoadedModel, LoadError

log = logging.getLogger("embedkit")

POSITIONS = 8192


class Tao8kHandler(EmbeddingHandler):
    """Pooling and normalisation are the folder's own; what is asked of it is its length and its attention."""

    def check_model(self, model: LoadedModel) -> None:
        """Raises LoadError without SDPA (eager attention takes 2 GB a layer at 8192 tokens), or 8192 positions."""
        if model.attention != "sdpa":
            raise LoadError(
                f"the model loaded with {model.attention!r} attention, and 8192 tokens need 'sdpa'; "
                "see _attn_implementation and position_embedding_type in the folder's config.json"
            )
        if model.position_limit is None or model.position_limit < POSITIONS:
            raise LoadError(
                f"a tao-8k model has {POSITIONS} positions, and this folder's config.json says "
                f"{model.position_limit}; use handler = 'sentence' in models.toml if that is meant"
            )
        if model.max_tokens is not None and model.max_tokens < POSITIONS:
            log.warning("embedkit: the folder's sentence_bert_config.json cuts at %d tokens", model.max_tokens)
