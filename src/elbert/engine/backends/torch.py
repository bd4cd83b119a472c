"""The mathematics on packed rows in plain torch: embed, one encoder layer, one exit head.

A backend is an object with these three methods; `TorchBackend` is the one that runs everywhere. It holds the weights in
the dtype it computes in; exit heads are always computed in fp32, so that thresholds see the same precision everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.layers.float import FloatLayer
from elbert.engine.layers.int8 import Int8Layer, check_int8, measure_ranges
from elbert.engine.layers.linear import Linear
from elbert.engine.rows.packed import Layout
from elbert.modeling.weights import EncoderWeights, HeadWeights

_Weights = TypeVar("_Weights")

# Rows of [CLS] are rounded up to a multiple of this, for the same reason as packed tokens.
_HEAD_ROWS = 8


@dataclass(frozen=True, slots=True)
class _Head:
    """One exit, prepared for the machine; the last product is too small to gain."""

    dense: Linear
    out_weight: Tensor
    out_bias: Tensor

    @classmethod
    def prepare(cls, head: HeadWeights) -> _Head:
        dense = Linear(head.dense_weight, head.dense_bias, act=head.dense_activation)
        return cls(dense, head.out_weight, head.out_bias)


def _converted(weights: _Weights, dtype: torch.dtype, device: torch.device) -> _Weights:
    """Return a copy of a weights dataclass with every tensor on `device` in `dtype`."""
    changes: dict[str, Any] = {}
    for field in fields(weights):  # type: ignore[arg-type]
        value = getattr(weights, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = value.detach().to(device=device, dtype=dtype).contiguous()
    return replace(weights, **changes)  # type: ignore[type-var]


class TorchBackend:
    """Embed, step and head over an `EncoderWeights`, in plain torch.

    Args:
        weights: the model as plain matrices.
        dtype: torch.float32, torch.bfloat16, torch.int8 (CPU with VNNI), torch.float16 (CUDA).
        device: where to compute.

    Attributes:
        embedding, projection, embedding_norm_eps: how tokens become hidden states; no projection where none is needed.
        layers: per exit the prepared layers it runs; a layer that the model shares is one object.

    Raises:
        UsageError: int8 on a machine that can't.
    """

    name = "torch"

    def __init__(self, weights: EncoderWeights, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        kept = torch.float32 if dtype == torch.int8 else dtype  # what all but the products of an int8 layer is in
        self.embedding_norm_eps = weights.embedding_norm_eps
        self.embedding = table = _converted(weights.embedding, kept, device)
        self.projection: Linear | None = None
        if table.projection_weight is not None and table.projection_bias is not None:
            self.projection = Linear(table.projection_weight, table.projection_bias)
        # A layer or head that the model shares is prepared once and stays one object.
        plain = _prepared(weights, kept, device)
        layers: Mapping[int, FloatLayer | Int8Layer]
        layers = _in_int8(weights, self, plain) if dtype == torch.int8 else plain
        self.layers = [[layers[id(layer)] for layer in group] for group in weights.layers]
        heads = {id(head): _Head.prepare(_converted(head, torch.float32, device)) for head in weights.heads}
        self._heads = [heads[id(head)] for head in weights.heads]
        self.shared_heads = len(heads) == 1

    def embed(self, ids: Tensor, token_types: Tensor | None, layout: Layout) -> Tensor:
        """Return [size, H] for packed `ids` ([size] int64, see `Layout.packed`); `token_types` None means all zero."""
        table = self.embedding
        hidden = F.embedding(ids, table.word) + F.embedding(layout.positions() + table.position_offset, table.position)
        if table.token_type is not None:
            hidden = hidden + (
                table.token_type[0] if token_types is None else F.embedding(token_types, table.token_type)
            )
        hidden = F.layer_norm(hidden, hidden.shape[-1:], table.norm_weight, table.norm_bias, self.embedding_norm_eps)
        return hidden if self.projection is None else self.projection(hidden)

    def step(self, hidden: Tensor, layout: Layout, depth: int) -> tuple[Tensor, Layout]:
        """Run encoder step `depth` (0-based) on packed `hidden` [size, H]; `layout` stays."""
        for layer in self.layers[depth]:
            hidden = layer(hidden, layout)
        return hidden, layout

    def head(self, cls: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Return (logits [rows, C], pooled [rows, H]) in fp32 of exit `depth` (0-based) for `cls` [rows, H]."""
        head = self._heads[depth]
        rows = len(cls)
        filler = -rows % _HEAD_ROWS if rows > 1 else 0
        pooled = head.dense(F.pad(cls, (0, 0, 0, filler)).float() if filler else cls.float())[:rows]
        return F.linear(pooled, head.out_weight, head.out_bias), pooled


def _in_int8(weights: EncoderWeights, backend: TorchBackend, plain: Mapping[int, FloatLayer]) -> dict[int, Int8Layer]:
    """Return every distinct layer with its products in 8 bits, by the `id` of its weights."""
    check_int8(backend.device)
    distinct = {id(layer): layer for group in weights.layers for layer in group}
    ranges = measure_ranges(weights, backend.embed, [plain[id(layer)] for group in weights.layers for layer in group])
    return {
        key: Int8Layer(
            _converted(layer, torch.float32, backend.device), plain[key], weights.activation, ranges[id(plain[key])]
        )
        for key, layer in distinct.items()
    }


def _prepared(weights: EncoderWeights, dtype: torch.dtype, device: torch.device) -> dict[int, FloatLayer]:
    """Return every distinct layer, by the `id` of its weights."""
    distinct = {id(layer): layer for group in weights.layers for layer in group}
    heads, eps = weights.num_attention_heads, weights.norm_eps
    return {
        key: FloatLayer.prepare(_converted(layer, dtype, device), weights.activation, heads, eps)
        for key, layer in distinct.items()
    }
