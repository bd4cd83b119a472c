"""Layers in float32, bfloat16 or float16: the interpreter of the formula in torch, and what it takes for weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from elbert.engine.layers.attention import Attention
from elbert.engine.layers.linear import Linear
from elbert.engine.rows.packed import Layout
from elbert.modeling.activations import Activation, activation
from elbert.modeling.weights import Layer, LayerWeights, Norm


class Product(Protocol):
    """A matrix prepared for the machine."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return [..., out] for x [..., in], activated where it was prepared so."""

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the product plus `residual`, [..., out]."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared(Layer[Product, Attention]):
    """A layer as `TorchOps` takes it.

    Attributes:
        act: what is left to do behind `up`; None where the product has done it.
    """

    act: Activation | None = None


class TorchOps:
    """The formula in torch, on packed rows. Holds nothing."""

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the layer norm of x [..., H]."""
        return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)

    def product(self, x: Tensor, product: Product) -> Tensor:
        """Return x times the matrix, activated where the product does that itself."""
        return product(x)

    def attention(self, qkv: Tensor, layer: Prepared, rows: Layout) -> Tensor:
        """Return packed [size, H] for packed [size, 3H]."""
        return layer.attention(qkv, rows)

    def activation(self, x: Tensor, layer: Prepared) -> Tensor:
        """Return what is left to do behind `up`."""
        return x if layer.act is None else layer.act(x)

    def plus(self, x: Tensor, product: Product, residual: Tensor) -> Tensor:
        """Return x times the matrix plus `residual`."""
        return product.plus(x, residual)


TORCH = TorchOps()


def prepare_float(layer: LayerWeights, attention: Attention) -> Prepared:
    """Lay out the weights of one layer, which are in the dtype and on the device that compute."""
    spec = layer.spec
    return Prepared(
        spec=spec,
        qkv=Linear(layer.qkv),
        attention=attention,
        out=Linear(layer.out),
        attention_norm=layer.attention_norm,
        up=Linear(layer.up, act=None if spec.gated else spec.activation),
        down=Linear(layer.down),
        output_norm=layer.output_norm,
        act=gate(spec.activation) if spec.gated else None,
    )


def gate(name: str) -> Activation:
    """Return the gated unit of an activation: [..., 2F] to [..., F], the activated first half times the second."""
    act = activation(name)

    def gated(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return act(first).mul_(second)

    return gated
