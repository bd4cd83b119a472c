"""The mathematics on packed rows in plain torch: embed, one encoder layer, one exit head.

A backend is an object with these three methods; `TorchBackend` is the one that runs everywhere. It holds the weights in
the dtype it computes in; exit heads are always computed in fp32, so that thresholds see the same precision everywhere.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.packed import Layout
from elbert.modeling.activations import activation
from elbert.modeling.weights import EncoderWeights, HeadWeights, LayerWeights

_Weights = TypeVar("_Weights")


def _converted(weights: _Weights, dtype: torch.dtype, device: torch.device) -> _Weights:
    """Return a copy of a weights dataclass with every tensor on `device` in `dtype`."""
    changes: dict[str, Any] = {}
    for field in fields(weights):  # type: ignore[arg-type]
        value = getattr(weights, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = value.detach().to(device=device, dtype=dtype).contiguous()
    return replace(weights, **changes)  # type: ignore[type-var]


def _converted_once(items: list[_Weights], dtype: torch.dtype, device: torch.device) -> list[_Weights]:
    """Convert every distinct object of `items` once, so that shared layers stay one object."""
    distinct = {id(item): item for item in items}
    converted = {key: _converted(item, dtype, device) for key, item in distinct.items()}
    return [converted[id(item)] for item in items]


class TorchBackend:
    """Embed, step and head over an `EncoderWeights`, in plain torch.

    Args:
        weights: the model as plain matrices.
        dtype: torch.float32 or torch.bfloat16 (torch.float16 too on CUDA).
        device: where to compute.
    """

    name = "torch"

    def __init__(self, weights: EncoderWeights, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        self.heads_count = weights.num_attention_heads
        self._norm_eps = weights.norm_eps
        self._embedding_norm_eps = weights.embedding_norm_eps
        self._hidden_size = weights.hidden_size
        self._activation = activation(weights.activation)
        self._embedding = _converted(weights.embedding, dtype, device)
        inner = [len(group) for group in weights.layers]
        flat = _converted_once([layer for group in weights.layers for layer in group], dtype, device)
        self._layers: list[list[LayerWeights]] = []
        for size in inner:
            self._layers.append(flat[:size])
            flat = flat[size:]
        self._heads: list[HeadWeights] = _converted_once(list(weights.heads), torch.float32, device)
        self.shared_heads = all(head is self._heads[0] for head in self._heads)

    def embed(self, ids: Tensor, token_types: Tensor | None, layout: Layout) -> Tensor:
        """Return [tokens, H] for packed `ids` ([tokens] int64); `token_types` None means all zero."""
        table = self._embedding
        hidden = F.embedding(ids, table.word) + F.embedding(layout.positions() + table.position_offset, table.position)
        if table.token_type is not None:
            hidden = hidden + (
                table.token_type[0] if token_types is None else F.embedding(token_types, table.token_type)
            )
        hidden = F.layer_norm(hidden, hidden.shape[-1:], table.norm_weight, table.norm_bias, self._embedding_norm_eps)
        if table.projection_weight is not None:
            hidden = F.linear(hidden, table.projection_weight, table.projection_bias)
        return hidden

    def step(self, hidden: Tensor, layout: Layout, depth: int) -> Tensor:
        """Run encoder layer `depth` (0-based) on packed `hidden` [tokens, H]."""
        for layer in self._layers[depth]:
            hidden = self._layer(hidden, layout, layer)
        return hidden

    def head(self, cls: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Return (logits [rows, C], pooled [rows, H]) in fp32 of exit `depth` (0-based) for `cls` [rows, H]."""
        head = self._heads[depth]
        pooled = F.linear(cls.float(), head.dense_weight, head.dense_bias)
        pooled = activation(head.dense_activation)(pooled)
        return F.linear(pooled, head.out_weight, head.out_bias), pooled

    def _layer(self, hidden: Tensor, layout: Layout, layer: LayerWeights) -> Tensor:
        shape = (self._hidden_size,)
        qkv = F.linear(hidden, layer.qkv_weight, layer.qkv_bias)  # [tokens, 3H]
        attended = F.linear(self._attend(qkv, layout), layer.out_weight, layer.out_bias)
        hidden = F.layer_norm(
            attended.add_(hidden), shape, layer.attention_norm_weight, layer.attention_norm_bias, self._norm_eps
        )
        inner = self._activation(F.linear(hidden, layer.up_weight, layer.up_bias))  # [tokens, F]
        out = F.linear(inner, layer.down_weight, layer.down_bias).add_(hidden)
        return F.layer_norm(out, shape, layer.output_norm_weight, layer.output_norm_bias, self._norm_eps)

    def _attend(self, qkv: Tensor, layout: Layout) -> Tensor:
        """Self-attention of every row over its own tokens: packed [tokens, 3H] to packed [tokens, H]."""
        mask = layout.mask
        padded = qkv if mask is None else qkv.index_select(0, layout.pad)
        block = padded.view(layout.rows, layout.longest, 3, self.heads_count, -1)
        q, k, v = block.permute(2, 0, 3, 1, 4)  # each [rows, heads, longest, H / heads]
        attn_mask = None if mask is None else mask[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        out = out.transpose(1, 2).reshape(-1, self._hidden_size)
        return out if mask is None else out.index_select(0, layout.unpad)
