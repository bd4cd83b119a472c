"""ALBERT: few layers, run many times over. An exit is one of the `num_hidden_layers` steps.

A step runs one hidden group, which holds `inner_group_num` layers; with `num_hidden_groups` = 1 every step is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from elbert.modeling.families.base import Family, embedding_weights, layer_weights
from elbert.modeling.weights import EmbeddingWeights, LayerWeights


class Albert(Family):
    """`AlbertForSequenceClassification` (Lan et al., arXiv 1909.11942)."""

    model_type = "albert"
    head_activation = "tanh"

    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return [B, S, H]: factorised embedding, then its projection."""
        albert = self.encoder(backbone)
        embedded: Tensor = albert.embeddings(input_ids, token_type_ids=token_type_ids)  # [B, S, E]
        projected: Tensor = albert.encoder.embedding_hidden_mapping_in(embedded)
        return projected

    def steps(self, backbone: nn.Module) -> Sequence[nn.Module]:
        """Return the hidden group of every step."""
        encoder = self.encoder(backbone).encoder
        return [encoder.albert_layer_groups[group] for group in _groups(encoder.config)]

    def head(self, backbone: Any) -> tuple[nn.Linear, nn.Dropout, nn.Linear]:
        """Return pooler, dropout and classifier."""
        return backbone.albert.pooler, backbone.dropout, backbone.classifier

    def embedding_weights(self, backbone: nn.Module) -> EmbeddingWeights:
        """Return the embedding with its projection from E to H."""
        albert = self.encoder(backbone)
        return embedding_weights(albert.embeddings, albert.encoder.embedding_hidden_mapping_in)

    def layer_weights(self, backbone: nn.Module) -> tuple[tuple[LayerWeights, ...], ...]:
        """Return the inner layers of every step; each hidden group is built once."""
        encoder = self.encoder(backbone).encoder
        groups = [tuple(_layer(layer) for layer in group.albert_layers) for group in encoder.albert_layer_groups]
        return tuple(groups[group] for group in _groups(encoder.config))


def _groups(config: Any) -> list[int]:
    """Return the hidden group that each step runs, by transformers' own formula."""
    steps_per_group = config.num_hidden_layers / config.num_hidden_groups
    return [int(step / steps_per_group) for step in range(config.num_hidden_layers)]


def _layer(layer: Any) -> LayerWeights:
    attention = layer.attention
    return layer_weights(
        attention.query,
        attention.key,
        attention.value,
        attention.dense,
        attention.LayerNorm,
        layer.ffn,
        layer.ffn_output,
        layer.full_layer_layer_norm,
    )
