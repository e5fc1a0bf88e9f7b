"""A loaded model as one torch module: token ids → sentence vectors.

What serves with torch, and what is converted for OpenVINO.
"""

from typing import Any

import torch

from .loading import LoadedModel


class Pipeline(torch.nn.Module):
    """All modules of a model, the transformer in its dtype, everything behind it in float32."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.transformer = model.transformer
        self.others = torch.nn.ModuleList(model.modules)
        self._bert_like = model.is_bert_like

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Float32 vectors (rows, dimensions) of token ids (rows, width); without a mask every token counts."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if self._bert_like:
            features: dict[str, Any] = {
                "input_ids": input_ids,  # modules behind it may read them
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


class PackedPipeline(Pipeline):
    """The same for rows that may hold several texts (LoadedModel.can_pack)."""

    def forward(  # type: ignore[override]
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, mask: torch.Tensor, pool: torch.Tensor
    ) -> torch.Tensor:
        """Float32 vectors (rows * texts a row, dimensions); the arguments are those of padding.PackedRows."""
        model = self.transformer.auto_model
        hidden = model.embeddings(input_ids=input_ids, position_ids=position_ids)
        added = (1.0 - mask[:, None].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        tokens = model.encoder(hidden, attention_mask=added, return_dict=False)[0]
        features = {"sentence_embedding": torch.bmm(pool, tokens.float()).flatten(0, 1)}
        for module in self.others[1:]:  # behind pooling
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"].float()
        return vectors
