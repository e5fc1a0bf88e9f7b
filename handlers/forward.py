"""A loaded model as one torch module: token ids → sentence vectors.

What serves with torch, and what is converted for OpenVINO.
"""

from typing import Any

import torch

from .loading import LoadedModel

# Their forward pass is embeddings, then encoder. Called as they are, they compute a pooler that nobody reads, ask the
# device whether anything is padded (on a GPU that waits for all that was launched), and make the mask as large as
# the scores of all tokens by all tokens.
_BERT_LIKE = frozenset({"BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel"})


class Pipeline(torch.nn.Module):
    """All modules of a model, the transformer in its dtype, everything behind it in float32."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.transformer = model.transformer
        self.others = torch.nn.ModuleList(model.modules)
        config = model.transformer.auto_model.config
        self._bert_like = type(model.transformer.auto_model).__name__ in _BERT_LIKE and not config.output_hidden_states

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Float32 vectors (rows, dimensions) of token ids (rows, width); without a mask every token counts."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if self._bert_like:
            features: dict[str, Any] = {
                "token_embeddings": self._tokens(input_ids, attention_mask),
                "attention_mask": mask,
            }
        else:
            features = self.transformer({"input_ids": input_ids, "attention_mask": mask})
        # Pooling and what follows it are cheap: in float32 they lose nothing of what the transformer gave.
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in self.others:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"].float()
        return vectors

    def _tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        model = self.transformer.auto_model
        hidden = model.embeddings(input_ids=input_ids)
        added = None
        if attention_mask is not None:
            added = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        tokens: torch.Tensor = model.encoder(hidden, attention_mask=added, return_dict=False)[0]
        return tokens
