"""RoBERTa: BERT's layers, positions that start behind the padding id, and a two-layer head on <s>."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from elbert.modeling.families.base import Family, bert_layer_weights, embedding_weights
from elbert.modeling.weights import EmbeddingWeights, LayerWeights


class Roberta(Family):
    """`RobertaForSequenceClassification` (Liu et al., arXiv 1907.11692)."""

    model_type = "roberta"
    head_activation = "tanh"
    drops_cls = True

    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return [B, S, H]; a model with a single token type takes that one for every token."""
        embeddings = self.encoder(backbone).embeddings
        if embeddings.token_type_embeddings.num_embeddings == 1:
            token_type_ids = None
        embedded: Tensor = embeddings(input_ids, token_type_ids=token_type_ids)
        return embedded

    def steps(self, backbone: nn.Module) -> Sequence[nn.Module]:
        """Return the layers."""
        return list(self.encoder(backbone).encoder.layer)

    def head(self, backbone: Any) -> tuple[nn.Linear, nn.Dropout, nn.Linear]:
        """Return dense, dropout and projection of the classification head."""
        head = backbone.classifier
        return head.dense, head.dropout, head.out_proj

    def embedding_weights(self, backbone: Any) -> EmbeddingWeights:
        """Return the embedding."""
        return embedding_weights(
            self.encoder(backbone).embeddings, position_offset=self.position_offset(backbone.config)
        )

    def layer_weights(self, backbone: nn.Module) -> tuple[tuple[LayerWeights, ...], ...]:
        """Return one layer per step."""
        return tuple((bert_layer_weights(layer),) for layer in self.encoder(backbone).encoder.layer)

    def position_offset(self, config: Any) -> int:
        """Return the padding id + 1."""
        return int(config.pad_token_id) + 1
