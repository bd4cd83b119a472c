"""What one encoder family has to say about itself: how it embeds, steps and reads out.

A family holds no state; it is a set of functions over transformers' own module of that family. To add one, copy the
nearest file in this folder, change it, and list it in `families/__init__.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from elbert.modeling.weights import EmbeddingWeights, LayerWeights


class Family(ABC):
    """One encoder family. `backbone` is always its transformers `...ForSequenceClassification`.

    Attributes:
        model_type: transformers' name of the family, as in `config.json`.
        head_activation: activation between the head's two Linears: `tanh`, `relu` or `gelu`.
        drops_cls: True where the head also drops out its input, the [CLS] state.
    """

    model_type: ClassVar[str]
    head_activation: ClassVar[str]
    drops_cls: ClassVar[bool] = False

    def encoder(self, backbone: nn.Module) -> Any:
        """Return the encoder below the classification head (`backbone.albert`, `backbone.bert`, ...)."""
        return backbone.base_model

    @abstractmethod
    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return what the first layer reads, [B, S, H], for token ids [B, S]."""

    @abstractmethod
    def steps(self, backbone: nn.Module) -> Sequence[nn.Module]:
        """Return the module between each exit and the one before, M of them, each called `step(hidden, mask)`."""

    @abstractmethod
    def head(self, backbone: nn.Module) -> tuple[nn.Linear, nn.Dropout, nn.Linear]:
        """Return the backbone's own head: the dense layer of the pooler, the dropout, the classifier."""

    @abstractmethod
    def embedding_weights(self, backbone: nn.Module) -> EmbeddingWeights:
        """Return the embedding as plain matrices."""

    @abstractmethod
    def layer_weights(self, backbone: nn.Module) -> tuple[tuple[LayerWeights, ...], ...]:
        """Return the layers of every step as plain matrices, the same object wherever a layer is shared."""

    def feed_forward_activation(self, config: Any) -> str:
        """Return transformers' name of the activation inside a layer."""
        return str(config.hidden_act)

    def norm_eps(self, config: Any) -> float:
        """Return the epsilon of every norm."""
        return float(config.layer_norm_eps)

    def position_offset(self, config: Any) -> int:  # noqa: ARG002
        """Return the row of the position table that the first token takes."""
        return 0

    def max_length(self, config: Any) -> int:
        """Return how many tokens a text may have, special tokens included."""
        return int(config.max_position_embeddings) - self.position_offset(config)


def layer_weights(
    query: nn.Linear,
    key: nn.Linear,
    value: nn.Linear,
    out: nn.Linear,
    attention_norm: nn.LayerNorm,
    up: nn.Linear,
    down: nn.Linear,
    output_norm: nn.LayerNorm,
) -> LayerWeights:
    """Return one layer's matrices from its modules; only query, key and value are copied, into one matrix."""
    return LayerWeights(
        qkv_weight=torch.cat([query.weight.detach(), key.weight.detach(), value.weight.detach()]),
        qkv_bias=torch.cat([query.bias.detach(), key.bias.detach(), value.bias.detach()]),
        out_weight=out.weight.detach(),
        out_bias=out.bias.detach(),
        attention_norm_weight=attention_norm.weight.detach(),
        attention_norm_bias=attention_norm.bias.detach(),
        up_weight=up.weight.detach(),
        up_bias=up.bias.detach(),
        down_weight=down.weight.detach(),
        down_bias=down.bias.detach(),
        output_norm_weight=output_norm.weight.detach(),
        output_norm_bias=output_norm.bias.detach(),
    )


def bert_layer_weights(layer: Any) -> LayerWeights:
    """Return the matrices of one layer laid out as BERT's, which RoBERTa and ELECTRA share."""
    attention = layer.attention
    return layer_weights(
        attention.self.query,
        attention.self.key,
        attention.self.value,
        attention.output.dense,
        attention.output.LayerNorm,
        layer.intermediate.dense,
        layer.output.dense,
        layer.output.LayerNorm,
    )


def embedding_weights(
    embeddings: Any, projection: nn.Linear | None = None, *, position_offset: int = 0
) -> EmbeddingWeights:
    """Return the matrices of a transformers embedding module, whose names are the same in every family."""
    token_type = getattr(embeddings, "token_type_embeddings", None)
    return EmbeddingWeights(
        word=embeddings.word_embeddings.weight.detach(),
        position=embeddings.position_embeddings.weight.detach(),
        token_type=None if token_type is None else token_type.weight.detach(),
        norm_weight=embeddings.LayerNorm.weight.detach(),
        norm_bias=embeddings.LayerNorm.bias.detach(),
        projection_weight=None if projection is None else projection.weight.detach(),
        projection_bias=None if projection is None else projection.bias.detach(),
        position_offset=position_offset,
    )
