"""One encoder layer with its four products in 8-bit integers; sums, norms and exits stay in fp32.

Attention of long rows is computed in bfloat16 where the processor has it, else in fp32.

Weights are rounded per output channel. What goes into a product is rounded with one fixed scale: a scale taken from the
rows at hand would let a text's answer depend on its neighbours. The scales come from running the model once, in fp32,
over random tokens, so that no texts are needed and every load of a model gives the same integers. The inputs of `qkv`
and `up` are norms with a few large channels; these are first evened out against the weights (Xiao et al., SmoothQuant,
2023, arXiv:2211.10438, alpha 0.5).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.layers.attention import attend
from elbert.engine.layers.float import FloatLayer
from elbert.engine.layers.linear import packs
from elbert.engine.rows.packed import Layout
from elbert.errors import UsageError
from elbert.modeling.activations import Activation, activation, gelu_form
from elbert.modeling.weights import EncoderWeights, LayerWeights

# The random texts that scales are taken from: many short rows, and a few that see late positions.
_LENGTHS = (8, 16, 32, 64) * 24 + (256,) * 4
_SEED = 0

# Products whose input channels are evened out.
_SMOOTHED = ("qkv", "up")


@dataclass
class Ranges:
    """What went into the products of one layer: the greatest magnitude per channel, and the extremes."""

    channels: dict[str, Tensor] = field(default_factory=dict)
    extremes: dict[str, tuple[float, float]] = field(default_factory=dict)

    def watch(self, name: str, given: Tensor) -> None:
        """Take note of [tokens, channels]."""
        largest = given.abs().amax(0)
        low, high = given.aminmax()
        before = self.extremes.get(name, (0.0, 0.0))
        self.channels[name] = torch.maximum(self.channels.get(name, largest), largest)
        self.extremes[name] = (min(before[0], float(low)), max(before[1], float(high)))


def check_int8(device: torch.device) -> None:
    """Raise UsageError where this machine or this torch can't multiply 8-bit integers exactly."""
    if device.type != "cpu":
        raise UsageError(f"dtype int8 runs on a CPU, not on {device}; use bfloat16 or float16")
    usable = hasattr(torch.ops.onednn, "qlinear_prepack") and torch.backends.mkldnn.is_available()
    if not usable or not torch.cpu._is_vnni_supported():
        raise UsageError("dtype int8 needs an x86 CPU with AVX-512 VNNI and torch with oneDNN; use float32 or bfloat16")


def measure_ranges(
    weights: EncoderWeights, embed: Callable[[Tensor, Tensor | None, Layout], Tensor], layers: Sequence[FloatLayer]
) -> dict[int, Ranges]:
    """Run random tokens through `layers` (every layer in order, shared ones again and again) in fp32.

    Returns:
        The ranges of each distinct layer, by its `id`.
    """
    generator = torch.Generator().manual_seed(_SEED)
    vocabulary = len(weights.embedding.word)
    ranges = {id(layer): Ranges() for layer in layers}
    with torch.inference_mode():
        for length in sorted(set(_LENGTHS)):
            rows = _LENGTHS.count(length)
            layout = Layout(np.full(rows, min(length, weights.max_length)))
            hidden = embed(torch.randint(vocabulary, (layout.size,), generator=generator), None, layout)
            for layer in layers:
                hidden = layer(hidden, layout, ranges[id(layer)].watch)
    return ranges


class _Product:
    """`y = x Wᵀ + b` with x and W in 8 bits.

    Args:
        weight: [out, in] fp32.
        bias: [out] fp32.
        extremes: least and greatest value of x that is told from its neighbours; beyond them x is clipped.
        smoothing: [in] x is divided by it first; None for no such thing.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, extremes: tuple[float, float], smoothing: Tensor | None = None
    ) -> None:
        self._even = None if smoothing is None else 1 / smoothing
        weight = weight if smoothing is None else weight * smoothing
        low, high = extremes
        self.scale = max(high - low, 1e-6) / 255
        self.zero = round(-low / self.scale)
        self._weight_scale = weight.abs().amax(1).clamp_min(1e-8) / 127
        rounded = (weight / self._weight_scale[:, None]).round().to(torch.int8)
        self._packed: Any = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._weight_zero = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = bias

    def rounded(self, x: Tensor) -> Tensor:
        """Return x ([..., in] fp32) as the 8-bit integers this product takes."""
        even = x if self._even is None else x * self._even
        rounded = torch.quantize_per_tensor(even, self.scale, self.zero, torch.quint8)
        # The same memory under its plain type: `int_repr` copies it.
        integers = torch.empty(0, dtype=torch.uint8)
        return integers.set_(rounded.untyped_storage(), 0, rounded.shape, rounded.stride())

    def __call__(self, x: Tensor) -> Tensor:
        """Return [..., out] fp32 for x as `rounded` gives it."""
        return self._run(x, 1.0, 0, torch.float32, "none", "")

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the product plus `residual`, [..., out] fp32."""
        y: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
            x, self.scale, self.zero, self._packed, self._weight_scale, self._weight_zero, residual, self._bias,
            1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "none", [], "",
        )  # fmt: skip
        return y

    def into(self, following: _Product, x: Tensor, form: str) -> Tensor:
        """Return GELU of the product, already rounded for `following`; `form` is `none` or `tanh`."""
        return self._run(x, following.scale, following.zero, torch.uint8, "gelu", form)

    def _run(self, x: Tensor, scale: float, zero: int, dtype: torch.dtype, act: str, form: str) -> Tensor:
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, self.scale, self.zero, self._packed, self._weight_scale, self._weight_zero, self._bias,
            scale, zero, dtype, act, [], form,
        )  # fmt: skip
        return y


class Int8Layer:
    """Post-norm transformer layer, as `FloatLayer`, with its products in 8 bits.

    Args:
        layer: its weights, fp32 on the CPU.
        plain: the same layer in fp32.
        act: transformers' name of the feed-forward activation.
        ranges: what goes into its products.
    """

    def __init__(self, layer: LayerWeights, plain: FloatLayer, act: str, ranges: Ranges) -> None:
        parts: Mapping[str, tuple[Tensor, Tensor]] = {
            "qkv": (layer.qkv_weight, layer.qkv_bias),
            "out": (layer.out_weight, layer.out_bias),
            "up": (layer.up_weight, layer.up_bias),
            "down": (layer.down_weight, layer.down_bias),
        }
        with warnings.catch_warnings():  # torch says once that its quantised tensors will go some day
            warnings.filterwarnings("ignore", message=".*quantize_per_tensor")
            torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
        self._products = {name: _product(name, *pair, ranges) for name, pair in parts.items()}
        self._plain = plain
        self._half = packs(torch.device("cpu"), torch.bfloat16)
        self._form = gelu_form(act)
        self._act: Activation = activation(act)

    def __call__(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Return [size, H] for packed `hidden` [size, H], both fp32."""
        plain, shape = self._plain, hidden.shape[-1:]
        qkv, out, down = self._products["qkv"], self._products["out"], self._products["down"]
        attended = attend(qkv(qkv.rounded(hidden)), layout, plain.heads, half=self._half)
        middle = F.layer_norm(out.plus(out.rounded(attended), hidden), shape, *plain.attention_norm, plain.eps)
        after = down.plus(self._inner(middle), middle)
        return F.layer_norm(after, shape, *plain.output_norm, plain.eps)

    def _inner(self, middle: Tensor) -> Tensor:
        """Return the activated inner values, rounded for `down`."""
        up, down = self._products["up"], self._products["down"]
        if self._form is not None:
            return up.into(down, up.rounded(middle), self._form)
        return down.rounded(self._act(up(up.rounded(middle))))


def _product(name: str, weight: Tensor, bias: Tensor, ranges: Ranges) -> _Product:
    if name not in _SMOOTHED:
        return _Product(weight, bias, ranges.extremes[name])
    channels = ranges.channels[name].clamp_min(1e-3)
    smoothing = (channels / weight.abs().amax(0).clamp_min(1e-3)).sqrt()
    greatest = float((channels / smoothing).max())
    return _Product(weight, bias, (-greatest, greatest), smoothing)
