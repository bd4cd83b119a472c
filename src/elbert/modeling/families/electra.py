"""ELECTRA: BERT's layers behind an optionally factorised embedding, and a GELU head on [CLS]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from elbert.modeling.families.base import Family, bert_layer_weights, embedding_weights
from elbert.modeling.weights import EmbeddingWeights, LayerWeights


class Electra(Family):
    """`ElectraForSequenceClassification` (Clark et al., arXiv 2003.10555)."""

    model_type = "electra"
    head_activation = "gelu"
    drops_cls = True

    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return [B, S, H], projected where the embedding is narrower than the layers."""
        electra = self.encoder(backbone)
        embedded: Tensor = electra.embeddings(input_ids, token_type_ids=token_type_ids)  # [B, S, E]
        projection = getattr(electra, "embeddings_project", None)
        return embedded if projection is None else projection(embedded)

    def steps(self, backbone: nn.Module) -> Sequence[nn.Module]:
        """Return the layers."""
        return list(self.encoder(backbone).encoder.layer)

    def head(self, backbone: Any) -> tuple[nn.Linear, nn.Dropout, nn.Linear]:
        """Return dense, dropout and projection of the classification head."""
        head = backbone.classifier
        return head.dense, head.dropout, head.out_proj

    def embedding_weights(self, backbone: nn.Module) -> EmbeddingWeights:
        """Return the embedding, with its projection where there is one."""
        electra = self.encoder(backbone)
        return embedding_weights(electra.embeddings, getattr(electra, "embeddings_project", None))

    def layer_weights(self, backbone: nn.Module) -> tuple[tuple[LayerWeights, ...], ...]:
        """Return one layer per step."""
        return tuple((bert_layer_weights(layer),) for layer in self.encoder(backbone).encoder.layer)
