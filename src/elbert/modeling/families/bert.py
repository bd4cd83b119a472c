"""BERT: M distinct layers, pooler and classifier on [CLS]."""

from __future__ import annotations

from torch import Tensor, nn

from elbert.modeling.families.base import Family


class Bert(Family):
    """`BertForSequenceClassification` (Devlin et al., arXiv 1810.04805)."""

    model_type = "bert"
    head_activation = "tanh"
    prefix = "bert"
    dense = "bert.pooler.dense"

    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return [B, S, H]."""
        embedded: Tensor = self.encoder(backbone).embeddings(input_ids, token_type_ids=token_type_ids)
        return embedded
