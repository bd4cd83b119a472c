"""One encoder layer on packed rows in float32, bfloat16 or float16, prepared for the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.layers.attention import attend
from elbert.engine.layers.linear import Linear, packs
from elbert.engine.rows.packed import Layout
from elbert.modeling.weights import LayerWeights

# Is shown what goes into each of the four products, by its name.
Watch = Callable[[str, Tensor], None]

PRODUCTS = ("qkv", "out", "up", "down")


@dataclass(frozen=True, slots=True)
class FloatLayer:
    """Post-norm transformer layer; norms are (weight, bias) of [H], `half` as `attend` takes it."""

    qkv: Linear
    out: Linear
    up: Linear
    down: Linear
    attention_norm: tuple[Tensor, Tensor]
    output_norm: tuple[Tensor, Tensor]
    heads: int
    eps: float
    half: bool

    @classmethod
    def prepare(cls, layer: LayerWeights, act: str, heads: int, eps: float) -> FloatLayer:
        """Lay out the weights of one layer, which are in the dtype and on the device that compute."""
        return cls(
            qkv=Linear(layer.qkv_weight, layer.qkv_bias),
            out=Linear(layer.out_weight, layer.out_bias),
            up=Linear(layer.up_weight, layer.up_bias, act=act),
            down=Linear(layer.down_weight, layer.down_bias),
            attention_norm=(layer.attention_norm_weight, layer.attention_norm_bias),
            output_norm=(layer.output_norm_weight, layer.output_norm_bias),
            heads=heads,
            eps=eps,
            half=layer.qkv_weight.dtype == torch.bfloat16 and packs(layer.qkv_weight.device, torch.bfloat16),
        )

    def __call__(self, hidden: Tensor, layout: Layout, watch: Watch | None = None) -> Tensor:
        """Return [size, H] for packed `hidden` [size, H]; `watch` is not shown the filler."""
        attended = attend(self.qkv(hidden), layout, self.heads, half=self.half)
        if watch is None:
            return self.after_attention(hidden, attended)
        return self.after_attention(hidden, attended, lambda name, given: watch(name, given[: layout.tokens]))

    def after_attention(self, hidden: Tensor, attended: Tensor, watch: Watch | None = None) -> Tensor:
        """Return the layer's output from its input and what attention made of it, all [..., H]."""
        shape = hidden.shape[-1:]
        middle = F.layer_norm(self.out.plus(attended, hidden), shape, *self.attention_norm, self.eps)
        inner = self.up(middle)
        if watch is not None:
            for name, given in zip(PRODUCTS, (hidden, attended, middle, inner), strict=True):
                watch(name, given)
        return F.layer_norm(self.down.plus(inner, middle), shape, *self.output_norm, self.eps)
