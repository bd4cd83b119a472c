"""The encoder as plain matrices, which is all an inference engine needs.

Holds no logic. Every tensor is detached and shares memory with the model it came from, except the fused query-key-value
matrices, which are built once per layer. Layers and heads that the model shares are the same Python object, so an
engine that converts them (to bf16, to a packed layout, to another device) can do so once per `id`.

Shapes: H hidden units, E embedding units, F feed-forward units, C classes, V vocabulary entries, P positions, M exits.
Every matrix is stored `[out, in]` as in `torch.nn.Linear`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from elbert.results import ProblemType


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One post-norm transformer layer: attention, add and norm, feed-forward, add and norm.

    Attributes:
        qkv_weight: [3H, H], rows of query, then key, then value.
        qkv_bias: [3H].
        out_weight: [H, H] of the attention's output.
        out_bias: [H].
        attention_norm_weight: [H] of the norm after attention.
        attention_norm_bias: [H].
        up_weight: [F, H].
        up_bias: [F].
        down_weight: [H, F].
        down_bias: [H].
        output_norm_weight: [H] of the norm after the feed-forward part.
        output_norm_bias: [H].
    """

    qkv_weight: Tensor
    qkv_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    attention_norm_weight: Tensor
    attention_norm_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor
    down_weight: Tensor
    down_bias: Tensor
    output_norm_weight: Tensor
    output_norm_bias: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingWeights:
    """Token to vector: word + token type + position, norm, then an optional projection from E to H.

    Attributes:
        word: [V, E].
        position: [P, E]; the token at 0-based place k takes row `k + position_offset`.
        token_type: [T, E], or None where the family has no token types (DistilBERT).
        norm_weight: [E].
        norm_bias: [E].
        projection_weight: [H, E], or None where the family has none (then E = H).
        projection_bias: [H] or None.
        position_offset: 0; for RoBERTa the padding id + 1.
    """

    word: Tensor
    position: Tensor
    token_type: Tensor | None
    norm_weight: Tensor
    norm_bias: Tensor
    projection_weight: Tensor | None = None
    projection_bias: Tensor | None = None
    position_offset: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """One exit: `logits = out(activation(dense([CLS])))`.

    Attributes:
        dense_weight: [H, H].
        dense_bias: [H].
        dense_activation: `tanh`, `relu` or `gelu` (the exact one).
        out_weight: [C, H].
        out_bias: [C].
    """

    dense_weight: Tensor
    dense_bias: Tensor
    dense_activation: str
    out_weight: Tensor
    out_bias: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class EncoderWeights:
    """A whole multi-exit classifier.

    Attributes:
        embedding: how a token becomes a vector.
        layers: one tuple per exit, holding the layers run between the exit before and this one: one layer, or several
            for an ALBERT with inner layers. A shared layer is the same object everywhere.
        heads: one per exit; a shared head is the same object everywhere.
        num_attention_heads: attention heads per layer; each is H / num_attention_heads wide.
        activation: transformers' name of the feed-forward activation, see `activations.activation`.
        norm_eps: epsilon of the layers' norms.
        embedding_norm_eps: epsilon of the embedding's norm.
        max_length: tokens a text may have, special tokens included.
        problem_type: how to read the logits.
        id2label: class names by index, 0 to C - 1.
    """

    embedding: EmbeddingWeights
    layers: tuple[tuple[LayerWeights, ...], ...]
    heads: tuple[HeadWeights, ...]
    num_attention_heads: int
    activation: str
    norm_eps: float
    embedding_norm_eps: float
    max_length: int
    problem_type: ProblemType
    id2label: dict[int, str]

    @property
    def num_layers(self) -> int:
        """M, the count of exits."""
        return len(self.layers)

    @property
    def num_labels(self) -> int:
        """C, the count of classes (1 for regression)."""
        return self.heads[-1].out_weight.shape[0]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.heads[-1].dense_weight.shape[0]

    @property
    def shared_layers(self) -> bool:
        """True where every exit step runs the very same layers, so rows at different depths can share one step."""
        first = self.layers[0]
        return all(
            len(step) == len(first) and all(a is b for a, b in zip(step, first, strict=True)) for step in self.layers
        )
