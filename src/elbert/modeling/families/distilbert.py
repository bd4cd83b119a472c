"""DistilBERT: distinct layers, no token types, and a ReLU head on [CLS]."""

from __future__ import annotations

from typing import Any, ClassVar

from elbert.modeling.families.base import Family, LayerNames


class DistilBert(Family):
    """`DistilBertForSequenceClassification` (Sanh et al., arXiv 1910.01108)."""

    model_type = "distilbert"
    prefix = "distilbert"
    token_type = None
    layers = "transformer.layer.{}"
    layer = LayerNames(
        qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        out="attention.out_lin",
        attention_norm="sa_layer_norm",
        up=("ffn.lin1",),
        down="ffn.lin2",
        output_norm="output_layer_norm",
    )
    dense = "pre_classifier"
    head_activation = "relu"
    fields: ClassVar[dict[str, str]] = {
        "vocab_size": "vocab_size",
        "max_position_embeddings": "max_position_embeddings",
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "hidden_dim": "hidden_dim",
        "activation": "activation",
    }

    def feed_forward_size(self, config: Any) -> int:
        """Return what DistilBERT's configuration calls `hidden_dim`."""
        return int(config.hidden_dim)

    def feed_forward_activation(self, config: Any) -> str:
        """Return the name DistilBERT's configuration calls `activation`."""
        return str(config.activation)

    def norm_eps(self, config: Any) -> float:  # noqa: ARG002
        """Return 1e-12, which transformers fixes in DistilBERT's code."""
        return 1e-12
