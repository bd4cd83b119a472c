"""One prepared matrix product: weights laid out once for the processor, bias, activation and residual in the same call.

On a CPU with oneDNN the weights are reordered when the engine is built and every product is one fused call; elsewhere
it is `F.linear` and what follows it. This module knows products and nothing of layers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.modeling.activations import Activation, activation, gelu_form
from elbert.modeling.weights import Matrix

# Rows the reordering is told to expect. The layout it chooses serves other counts as well: measured from 16 to 4,096.
_EXPECTED_ROWS = 256

# Activations the product applies itself, under transformers' names; every GELU too.
_FUSED = ("relu", "tanh")


class Linear:
    """`y = act(x Wᵀ + b)` or `y = x Wᵀ + b + residual`, prepared once.

    Args:
        matrix: already in the dtype and on the device that compute; not kept where the product has its own layout.
        act: transformers' name of an activation to apply; None for none.
    """

    __slots__ = ("_act", "_attribute", "_bias", "_form", "_packed", "_weight")

    def __init__(self, matrix: Matrix, *, act: str | None = None) -> None:
        weight = matrix.weight
        self._bias = matrix.bias
        self._act: Activation | None = activation(act) if act else None
        self._attribute, self._form = "none", ""
        self._packed: Any = None
        self._weight: Tensor | None = weight
        if not packs(weight.device, weight.dtype):
            return
        self._weight = None  # two layouts of one matrix would double a model's memory
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, _EXPECTED_ROWS)
        form = gelu_form(act) if act else None
        if form or act in _FUSED:
            self._act = None  # the product applies it
            self._attribute, self._form = ("gelu", form) if form else (str(act), "")

    def __call__(self, x: Tensor) -> Tensor:
        """Return [..., out] for `x` [..., in]."""
        if self._weight is not None:
            y = F.linear(x, self._weight, self._bias)
        else:
            y = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, self._attribute, [], self._form)
        return y if self._act is None else self._act(y)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return `x Wᵀ + b + residual`, [..., out]; only for a product without an activation."""
        if self._weight is not None:
            return F.linear(x, self._weight, self._bias).add_(residual)
        y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._packed, self._bias, "add")
        return y


@cache
def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether torch has oneDNN's prepared products for the dtype here; in bfloat16 only where the CPU has them."""
    operators = torch.ops.mkldnn
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(operators, "_linear_pointwise") or not hasattr(operators, "_reorder_linear_weight"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(operators._is_mkldnn_bf16_supported()))
