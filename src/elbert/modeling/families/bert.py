"""BERT: M distinct layers, pooler and classifier on [CLS]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from elbert.modeling.families.base import Family, bert_layer_weights, embedding_weights
from elbert.modeling.weights import EmbeddingWeights, LayerWeights


class Bert(Family):
    """`BertForSequenceClassification` (Devlin et al., arXiv 1810.04805)."""

    model_type = "bert"
    head_activation = "tanh"

    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return [B, S, H]."""
        embedded: Tensor = self.encoder(backbone).embeddings(input_ids, token_type_ids=token_type_ids)
        return embedded

    def steps(self, backbone: nn.Module) -> Sequence[nn.Module]:
        """Return the layers."""
        return list(self.encoder(backbone).encoder.layer)

    def head(self, backbone: Any) -> tuple[nn.Linear, nn.Dropout, nn.Linear]:
        """Return pooler, dropout and classifier."""
        return backbone.bert.pooler.dense, backbone.dropout, backbone.classifier

    def embedding_weights(self, backbone: nn.Module) -> EmbeddingWeights:
        """Return the embedding."""
        return embedding_weights(self.encoder(backbone).embeddings)

    def layer_weights(self, backbone: nn.Module) -> tuple[tuple[LayerWeights, ...], ...]:
        """Return one layer per step."""
        return tuple((bert_layer_weights(layer),) for layer in self.encoder(backbone).encoder.layer)
