"""Serves any sentence-transformers folder: its modules.json decides."""

from .base import EmbeddingHandler


class SentenceHandler(EmbeddingHandler):
    """Nothing beyond what every handler does."""
