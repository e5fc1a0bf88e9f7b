"""Serves the BGE family, such as BAAI/bge-large-zh: the CLS vector, and an instruction in front of queries."""

from .base import EmbeddingHandler
from .loading import LoadedModel, LoadError


class BgeHandler(EmbeddingHandler):
    """`prompt_name: "query"` puts BGE's Chinese instruction in front; documents go without one."""

    default_prompts = {"query": "为这个句子生成表示以用于检索相关文章："}  # noqa: RUF012 - read only

    def check_model(self, model: LoadedModel) -> None:
        """Raises LoadError where the folder does not pool by the CLS token, as BGE is trained to."""
        if model.pooling != "cls":
            raise LoadError(
                f"a bge model takes the CLS token's vector, and this folder's 1_Pooling says {model.pooling!r}; "
                "use handler = 'sentence' in models.toml if that is meant"
            )
