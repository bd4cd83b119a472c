"""The formula of an encoder layer, stated once for everything that computes one.

What a product, a norm or attention *is* belongs to an interpreter, `Ops`: torch on packed rows in floating point or in
8 bits, torch on padded blocks of a GPU, the writer of ONNX graphs, and those that look on at a layer while it runs. An
interpreter may fuse: the residual goes into the product with it, and a product may have applied the activation already.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from elbert.modeling.spec import LayerSpec
from elbert.modeling.weights import Layer, Norm

Product = TypeVar("Product", contravariant=True)
LayerT = TypeVar("LayerT", bound=Layer[Any, Any], contravariant=True)
Value = TypeVar("Value")  # packed rows, a padded block, or the name of a value in a graph
Rows = TypeVar("Rows", contravariant=True)  # where rows lie, or which places hold a token


class Ops(Protocol[Product, LayerT, Value, Rows]):
    """What a layer is made of. H hidden units, F feed-forward units."""

    def norm(self, x: Value, norm: Norm) -> Value:
        """Return the layer norm of x [..., H]."""

    def product(self, x: Value, product: Product) -> Value:
        """Return x times the matrix plus its bias."""

    def attention(self, qkv: Value, layer: LayerT, rows: Rows) -> Value:
        """Return [..., H], what every token makes of the tokens of its own row, for [..., 3H]."""

    def activation(self, x: Value, layer: LayerT) -> Value:
        """Return the activated [..., F] for [..., F], or for [..., 2F] where the layer is gated."""

    def plus(self, x: Value, product: Product, residual: Value) -> Value:
        """Return x times the matrix plus its bias plus `residual`."""


def forward(
    ops: Ops[Product, LayerT, Value, Rows],
    spec: LayerSpec,
    layer: LayerT,
    hidden: Value,
    rows: Rows,
) -> Value:
    """Return what one layer makes of `hidden` [..., H].

    Args:
        ops: the interpreter.
        spec: what the layer is.
        layer: its weights, as the interpreter takes them.
        hidden: the rows' hidden states.
        rows: where they are, as the interpreter takes it.
    """
    before = layer.attention_norm if spec.norm_first else None
    given = hidden if before is None else ops.norm(hidden, before)
    attended = ops.attention(ops.product(given, layer.qkv), layer, rows)
    hidden = ops.plus(attended, layer.out, hidden)
    if spec.norm_first:
        given = ops.norm(hidden, layer.output_norm)
        return ops.plus(ops.activation(ops.product(given, layer.up), layer), layer.down, hidden)
    if layer.attention_norm is not None:
        hidden = ops.norm(hidden, layer.attention_norm)
    hidden = ops.plus(ops.activation(ops.product(hidden, layer.up), layer), layer.down, hidden)
    return ops.norm(hidden, layer.output_norm)
