"""DistilBERT: distinct layers, no token types, and a ReLU head on [CLS]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from elbert.modeling.families.base import Family, embedding_weights, layer_weights
from elbert.modeling.weights import EmbeddingWeights, LayerWeights


class DistilBert(Family):
    """`DistilBertForSequenceClassification` (Sanh et al., arXiv 1910.01108)."""

    model_type = "distilbert"
    head_activation = "relu"

    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return [B, S, H]; token types are not read."""
        embedded: Tensor = self.encoder(backbone).embeddings(input_ids)
        return embedded

    def steps(self, backbone: nn.Module) -> Sequence[nn.Module]:
        """Return the layers."""
        return list(self.encoder(backbone).transformer.layer)

    def head(self, backbone: Any) -> tuple[nn.Linear, nn.Dropout, nn.Linear]:
        """Return pre-classifier, dropout and classifier."""
        return backbone.pre_classifier, backbone.dropout, backbone.classifier

    def embedding_weights(self, backbone: nn.Module) -> EmbeddingWeights:
        """Return the embedding."""
        return embedding_weights(self.encoder(backbone).embeddings)

    def layer_weights(self, backbone: nn.Module) -> tuple[tuple[LayerWeights, ...], ...]:
        """Return one layer per step."""
        return tuple((_layer(layer),) for layer in self.encoder(backbone).transformer.layer)

    def feed_forward_activation(self, config: Any) -> str:
        """Return the name DistilBERT's configuration calls `activation`."""
        return str(config.activation)

    def norm_eps(self, config: Any) -> float:  # noqa: ARG002
        """Return 1e-12, which transformers fixes in DistilBERT's code."""
        return 1e-12


def _layer(layer: Any) -> LayerWeights:
    attention = layer.attention
    return layer_weights(
        attention.q_lin,
        attention.k_lin,
        attention.v_lin,
        attention.out_lin,
        layer.sa_layer_norm,
        layer.ffn.lin1,
        layer.ffn.lin2,
        layer.output_layer_norm,
    )
