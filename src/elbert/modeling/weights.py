"""The encoder as plain matrices, which is all an inference engine needs.

Holds no logic. Every tensor is detached and shares memory with the model it came from, except the fused query-key-value
matrices, which are built once per layer. Layers and heads that the model shares are the same Python object, so an
engine that converts them (to bf16, to a packed layout, to another device) can do so once per `id`.

Shapes: H hidden units, E embedding units, F feed-forward units, C classes, V vocabulary entries, P positions, M exits.
Every matrix is stored `[out, in]` as in `torch.nn.Linear`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

from torch import Tensor

from elbert.errors import UsageError
from elbert.modeling.spec import LayerSpec
from elbert.results import ProblemType
from elbert.tasks import fits, task_of

ProductT = TypeVar("ProductT")
NormT = TypeVar("NormT")
AttentionT = TypeVar("AttentionT")
_Weights = TypeVar("_Weights")


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """`y = x weightᵀ + bias`.

    Attributes:
        weight: [out, in].
        bias: [out], or None for none.
    """

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Layer norm over the last dimension, n wide.

    Attributes:
        weight: [n].
        bias: [n], or None for none.
        eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor | None
    eps: float


@dataclass(frozen=True, slots=True, eq=False)
class Disentangled:
    """Terms of a score that know how far apart two tokens are (DeBERTa). R relative positions, near ones each its own.

    A score of query q at place i and key k at place j grows by `q key[r]` and by `k query[r]`, with r the relative
    position of i - j.

    Attributes:
        key: [R, H], what queries are multiplied by (content to position); None for no such term.
        query: [R, H], what keys are multiplied by (position to content); None for no such term.
        index: [2P - 1] int64, r by the distance j - i, from -(P - 1) to P - 1; never grows.
    """

    key: Tensor | None
    query: Tensor | None
    index: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class PositionWeights:
    """What attention adds to its scores by position; layers that share a tensor hold the same one.

    Attributes:
        relative_bias: [heads, 2P - 1] by the distance of the key from the query, from -(P - 1) to P - 1 (T5, MPNet).
        disentangled: DeBERTa's terms.
    """

    relative_bias: Tensor | None = None
    disentangled: Disentangled | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Layer(Generic[ProductT, AttentionT]):
    """One transformer layer, its parts as matrices or prepared for a machine; `spec` says how they go together.

    Attributes:
        spec: what the layer computes.
        qkv: H to 3H, rows of query, then key, then value.
        attention: what it knows of places, or all of it prepared.
        out: H to H, of the attention's output.
        attention_norm: [H] before attention or behind it, see `spec`; None where what arrives is normed already.
        up: H to F; where `spec` says gated H to 2F, rows of the activated half, then of its multiplier.
        down: F to H.
        output_norm: [H] before the feed-forward part or behind it.
    """

    spec: LayerSpec
    qkv: ProductT
    attention: AttentionT
    out: ProductT
    attention_norm: Norm | None
    up: ProductT
    down: ProductT
    output_norm: Norm


LayerWeights: TypeAlias = Layer[Matrix, PositionWeights]


def _knows_distances(layer: LayerWeights) -> bool:
    places = (layer.attention.relative_bias, layer.attention.disentangled, layer.spec.rotary_base, layer.spec.window)
    return any(each is not None for each in places)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingWeights:
    """Token to vector: word + position + token type, norm, then an optional projection from E to H.

    Attributes:
        word: [V, E].
        position: [P, E]; the token at 0-based place k takes row `k + position_offset`. None where layers alone know
            places.
        token_type: [T, E], or None where the family has no token types.
        norm: [E], or [H] where `norm_last`.
        projection: E to H, or None where E = H and the family has none.
        position_offset: 0; for RoBERTa the padding id + 1.
        norm_last: True norms behind the projection and not before it.
    """

    word: Tensor
    position: Tensor | None
    token_type: Tensor | None
    norm: Norm
    projection: Matrix | None = None
    position_offset: int = 0
    norm_last: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """One exit: `logits = out(norm(activation(dense(final_norm(read)))))`, without the norms a family has not.

    Attributes:
        dense: H to H.
        activation: transformers' name of it.
        out: H to C.
        final_norm: [H] of a pre-norm encoder, whose layers leave their sums as they are.
        norm: [H] behind the activation.
        reads_mean: whether it reads the mean over the tokens' states, instead of the first token's ([CLS]).
        token_eps: eps of the norm, without weights, that every state passes before that mean; None for none.
    """

    dense: Matrix
    activation: str
    out: Matrix
    final_norm: Norm | None = None
    norm: Norm | None = None
    reads_mean: bool = False
    token_eps: float | None = None

    def over_mean(self) -> HeadWeights:
        """Return the head as it reads the mean over the tokens.

        Each token's state is normed before the mean. A norm's weights are the same for all of them, so they can as
        well be applied behind the mean, and then be part of `dense`.
        """
        if self.reads_mean or self.final_norm is None:
            return replace(self, reads_mean=True)
        weight, bias, shift = self.dense.weight, self.dense.bias, self.final_norm.bias
        if shift is not None:
            bias = weight @ shift if bias is None else bias + weight @ shift
        dense = Matrix(weight * self.final_norm.weight, bias)
        return replace(self, dense=dense, final_norm=None, reads_mean=True, token_eps=self.final_norm.eps)


@dataclass(frozen=True, slots=True, eq=False)
class EncoderWeights:
    """A whole multi-exit classifier.

    Attributes:
        embedding: how a token becomes a vector.
        layers: one tuple per exit, holding the layers run between the exit before and this one: one layer, or several
            for an ALBERT with inner layers. A shared layer is the same object everywhere.
        heads: one per exit; a shared head is the same object everywhere.
        max_length: tokens a text may have, special tokens included.
        problem_type: how to read the logits.
        id2label: class names by index, 0 to C - 1.
    """

    embedding: EmbeddingWeights
    layers: tuple[tuple[LayerWeights, ...], ...]
    heads: tuple[HeadWeights, ...]
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
        return self.heads[-1].out.weight.shape[0]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.heads[-1].dense.weight.shape[0]

    @property
    def knows_distances(self) -> bool:
        """True where a layer looks at how far apart two tokens are, so that none may be dropped from between them."""
        return any(_knows_distances(layer) for step in self.layers for layer in step)

    @property
    def shared_layers(self) -> bool:
        """True where every exit step runs the very same layers, so rows at different depths can share one step."""
        first = self.layers[0]
        return all(
            len(step) == len(first) and all(a is b for a, b in zip(step, first, strict=True)) for step in self.layers
        )

    def read_as(self, problem_type: str | None) -> EncoderWeights:
        """Return the same with the problem type named; None leaves it.

        Raises:
            UsageError: there is none such, or it can't be one of so many outputs.
        """
        if problem_type is None or problem_type == self.problem_type:
            return self
        named = task_of(problem_type).problem_type
        if not fits(named, self.num_labels):
            raise UsageError(f"problem_type is {named!r}, but the model has one output; classes take two or more")
        return replace(self, problem_type=named)

    def shapes(self) -> EncoderWeights:
        """Return the same without any memory: tensors on the meta device, shared parts shared as before."""
        seen: dict[int, Any] = {}

        def once(part: _Weights) -> _Weights:
            if id(part) not in seen:
                seen[id(part)] = converted(part, lambda tensor: tensor.to("meta"))
            found: _Weights = seen[id(part)]
            return found

        return replace(
            self,
            embedding=once(self.embedding),
            layers=tuple(tuple(once(layer) for layer in step) for step in self.layers),
            heads=tuple(once(head) for head in self.heads),
        )


def converted(weights: _Weights, convert: Callable[[Tensor], Tensor]) -> _Weights:
    """Return a copy of one of the dataclasses above with every floating-point tensor in it converted."""
    changes: dict[str, Any] = {}
    for field in fields(weights):  # type: ignore[arg-type]
        value = getattr(weights, field.name)
        if isinstance(value, Tensor) and value.is_floating_point():
            changes[field.name] = convert(value.detach())
        elif is_dataclass(value) and not isinstance(value, LayerSpec):
            changes[field.name] = converted(value, convert)
    return replace(weights, **changes)  # type: ignore[type-var]
