"""ALBERT: few layers, run many times over. An exit is one of the `num_hidden_layers` steps.

A step runs one hidden group, which holds `inner_group_num` layers; with `num_hidden_groups` = 1 every step is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from elbert.modeling.families.base import Family, LayerNames


class Albert(Family):
    """`AlbertForSequenceClassification` (Lan et al., arXiv 1909.11942)."""

    model_type = "albert"
    prefix = "albert"
    layers = "encoder.albert_layer_groups.{}.albert_layers.{}"
    layer = LayerNames(
        qkv=("attention.query", "attention.key", "attention.value"),
        out="attention.dense",
        attention_norm="attention.LayerNorm",
        up=("ffn",),
        down="ffn_output",
        output_norm="full_layer_layer_norm",
    )
    projection = "encoder.embedding_hidden_mapping_in"
    dense = "albert.pooler"
    head_activation = "tanh"
    fields: ClassVar[dict[str, str]] = {
        **Family.fields,
        "embedding_size": "embedding_size",
        "num_hidden_groups": "num_hidden_groups",
        "inner_group_num": "inner_group_num",
    }

    def steps(self, backbone: nn.Module) -> Sequence[nn.Module]:
        """Return the hidden group of every step."""
        encoder = self.encoder(backbone).encoder
        return [encoder.albert_layer_groups[group] for group in _groups(encoder.config)]

    def layer_names(self, config: Any) -> list[tuple[str, ...]]:
        """Return the inner layers of every step's group."""
        inner = range(config.inner_group_num)
        return [
            tuple(f"{self.prefix}.{self.layers.format(group, layer)}" for layer in inner) for group in _groups(config)
        ]

    def projection_name(self, config: Any) -> str | None:  # noqa: ARG002
        """Return its name: ALBERT projects even where the widths agree."""
        return f"{self.prefix}.{self.projection}"

    def embedding_size(self, config: Any) -> int:
        """Return E of the factorised embedding."""
        return int(config.embedding_size)


def _groups(config: Any) -> list[int]:
    """Return the hidden group that each step runs, by transformers' own formula."""
    steps_per_group = config.num_hidden_layers / config.num_hidden_groups
    return [int(step / steps_per_group) for step in range(config.num_hidden_layers)]
