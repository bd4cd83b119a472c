"""One encoder layer with its four products in 8-bit integers; sums, norms and exits stay in fp32.

Attention of long rows is computed in bfloat16 where the processor has it, else in fp32.

Weights are rounded per output channel, to 7 bits where a processor without VNNI adds products of 8 bits in 16, which
would saturate. What goes into a product is rounded with one fixed scale: a scale taken from the
rows at hand would let a text's answer depend on its neighbours. The scales come from running the model once, in fp32,
over random tokens, so that no texts are needed and every load of a model gives the same integers. The inputs of `qkv`
and `up` are norms with a few large channels; these are first evened out against the weights (Xiao et al., SmoothQuant,
2023, arXiv:2211.10438, alpha 0.5).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elbert.engine.layers.attention import Attention
from elbert.engine.layers.float import Prepared, Product, TorchOps, gate
from elbert.engine.layers.formula import forward
from elbert.engine.rows.packed import Layout
from elbert.errors import UsageError
from elbert.modeling.activations import activation, gelu_form
from elbert.modeling.weights import EncoderWeights, LayerWeights, Matrix

# The random texts that scales are taken from: many short rows, and a few that see late positions.
_LENGTHS = (8, 16, 32, 64) * 24 + (256,) * 4
_SEED = 0

_PRODUCTS = ("qkv", "out", "up", "down")

# Products whose input channels are evened out.
_SMOOTHED = ("qkv", "up")

# Greatest magnitude of a weight, and where sums are of 16 bits: two products of it with 255 stay below 2^15.
_GREATEST, _GREATEST_IN_16_BITS = 127, 63


@dataclass
class Ranges:
    """What went into the products of one layer: the greatest magnitude per channel, and the extremes."""

    channels: dict[str, Tensor] = field(default_factory=dict)
    extremes: dict[str, tuple[float, float]] = field(default_factory=dict)

    def note(self, name: str, given: Tensor) -> None:
        """Take note of [tokens, channels]."""
        largest = given.abs().amax(0)
        low, high = given.aminmax()
        before = self.extremes.get(name, (0.0, 0.0))
        self.channels[name] = torch.maximum(self.channels.get(name, largest), largest)
        self.extremes[name] = (min(before[0], float(low)), max(before[1], float(high)))


class _Watching(TorchOps):
    """Computes a layer and notes what goes into its products, but for the filler behind `tokens`."""

    def __init__(self, layer: Prepared, ranges: Ranges, tokens: int) -> None:
        self._names = {id(getattr(layer, name)): name for name in _PRODUCTS}
        self._ranges, self._tokens = ranges, tokens

    def product(self, x: Tensor, product: Product) -> Tensor:
        self._ranges.note(self._names[id(product)], x[: self._tokens])
        return super().product(x, product)

    def plus(self, x: Tensor, product: Product, residual: Tensor) -> Tensor:
        self._ranges.note(self._names[id(product)], x[: self._tokens])
        return super().plus(x, product, residual)


def saturates() -> bool:
    """Tell whether sums of 8-bit products are lost beyond 16 bits here, as on x86 without VNNI, AVX-512's or AVX's.

    oneDNN, which OpenVINO multiplies with too, can be held to less than the processor has, and torch does not know.
    """
    has: Mapping[str, Any] = torch.cpu.get_capabilities()
    held = (os.environ.get(name, "").upper() for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"))
    if any(each in ("SSE41", "AVX", "AVX2", "AVX512_CORE") for each in held):
        return True
    return has["architecture"] == "x86_64" and not (has["avx512_vnni"] or has["avx_vnni"])


def check_int8(device: torch.device) -> None:
    """Raise UsageError where this machine or this torch can't multiply 8-bit integers."""
    if device.type != "cpu":
        raise UsageError(f"dtype int8 runs on a CPU, not on {device}; use bfloat16 or float16")
    usable = hasattr(torch.ops.onednn, "qlinear_prepack") and torch.backends.mkldnn.is_available()
    if not usable or not torch.cpu._is_avx2_supported():
        raise UsageError("dtype int8 needs an x86 CPU with AVX2 and torch with oneDNN; use float32 or bfloat16")


def measure_ranges(
    weights: EncoderWeights, embed: Callable[[Tensor, Tensor | None, Layout], Tensor], layers: Sequence[Prepared]
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
                ops = _Watching(layer, ranges[id(layer)], layout.tokens)
                hidden = forward(ops, layer.spec, layer, hidden, layout)
    return ranges


class Int8Product:
    """`y = x Wᵀ + b` with x and W in 8 bits; what it is given is rounded first, unless it comes as integers.

    Args:
        matrix: fp32.
        extremes: least and greatest value of x that is told from its neighbours; beyond them x is clipped.
        smoothing: [in] x is divided by it first; None for no such thing.
    """

    def __init__(self, matrix: Matrix, extremes: tuple[float, float], smoothing: Tensor | None = None) -> None:
        self._even = None if smoothing is None else 1 / smoothing
        weight = matrix.weight if smoothing is None else matrix.weight * smoothing
        low, high = extremes
        self._scale = max(high - low, 1e-6) / 255
        self._zero = round(-low / self._scale)
        greatest = _GREATEST_IN_16_BITS if saturates() else _GREATEST
        self._weight_scale = weight.abs().amax(1).clamp_min(1e-8) / greatest
        rounded = (weight / self._weight_scale[:, None]).round().to(torch.int8)
        self._packed: Any = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._weight_zero = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = matrix.bias
        # What comes out: scale, zero, dtype, activation and its form.
        self._after: tuple[float, int, torch.dtype, str, str] = (1.0, 0, torch.float32, "none", "")

    def give(self, following: Int8Product, form: str) -> None:
        """From now on return GELU of the product, rounded for `following`; `form` is `none` or `tanh`."""
        self._after = (following._scale, following._zero, torch.uint8, "gelu", form)

    def __call__(self, x: Tensor) -> Tensor:
        """Return [..., out] fp32 for x [..., in], or what `give` asked for."""
        scale, zero, dtype, act, form = self._after
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            self._integers(x), self._scale, self._zero, self._packed, self._weight_scale, self._weight_zero, self._bias,
            scale, zero, dtype, act, [], form,
        )  # fmt: skip
        return y

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the product plus `residual`, [..., out] fp32."""
        y: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
            self._integers(x), self._scale, self._zero, self._packed, self._weight_scale, self._weight_zero, residual,
            self._bias, 1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "none", [], "",
        )  # fmt: skip
        return y

    def _integers(self, x: Tensor) -> Tensor:
        """Return x as the 8-bit integers this product takes."""
        if x.dtype == torch.uint8:
            return x
        even = x if self._even is None else x * self._even
        rounded = torch.quantize_per_tensor(even, self._scale, self._zero, torch.quint8)
        # The same memory under its plain type: `int_repr` copies it.
        integers = torch.empty(0, dtype=torch.uint8)
        return integers.set_(rounded.untyped_storage(), 0, rounded.shape, rounded.stride())


def prepare_int8(layer: LayerWeights, attention: Attention, ranges: Ranges) -> Prepared:
    """Round the weights of one layer.

    Args:
        layer: in fp32, on the CPU.
        attention: stays in floating point.
        ranges: what goes into its products.
    """
    with warnings.catch_warnings():  # torch says once that its quantised tensors will go some day
        warnings.filterwarnings("ignore", message=".*quantize_per_tensor")
        torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
    spec = layer.spec
    products: Mapping[str, Int8Product] = {name: _product(name, getattr(layer, name), ranges) for name in _PRODUCTS}
    form = None if spec.gated else gelu_form(spec.activation)
    if form is not None:
        products["up"].give(products["down"], form)
    act = gate(spec.activation) if spec.gated else activation(spec.activation)
    return Prepared(
        spec=spec,
        attention=attention,
        attention_norm=layer.attention_norm,
        output_norm=layer.output_norm,
        act=None if form is not None else act,
        **products,
    )


def _product(name: str, matrix: Matrix, ranges: Ranges) -> Int8Product:
    if name not in _SMOOTHED:
        return Int8Product(matrix, ranges.extremes[name])
    channels = ranges.channels[name].clamp_min(1e-3)
    smoothing = (channels / matrix.weight.abs().amax(0).clamp_min(1e-3)).sqrt()
    greatest = float((channels / smoothing).max())
    return Int8Product(matrix, (-greatest, greatest), smoothing)
