"""RoBERTa: BERT's layers, positions that start behind the padding id, and a two-layer head on <s>."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from elbert.modeling.families.base import Family


class Roberta(Family):
    """`RobertaForSequenceClassification` (Liu et al., arXiv 1907.11692)."""

    model_type = "roberta"
    head_activation = "tanh"
    drops_cls = True
    prefix = "roberta"
    dense = "classifier.dense"
    dropout = "classifier.dropout"
    out = "classifier.out_proj"
    fields: ClassVar[dict[str, str]] = {**Family.fields, "pad_token_id": "pad_token_id"}

    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return [B, S, H]; a model with a single token type takes that one for every token."""
        embeddings = self.encoder(backbone).embeddings
        if embeddings.token_type_embeddings.num_embeddings == 1:
            token_type_ids = None
        embedded: Tensor = embeddings(input_ids, token_type_ids=token_type_ids)
        return embedded

    def position_offset(self, config: Any) -> int:
        """Return the padding id + 1."""
        return int(config.pad_token_id) + 1
