"""The backend that runs everywhere: embed, steps and exit heads on packed rows in torch.

It holds the weights in the dtype it computes in and in the layout the machine wants; exit heads are always computed in
fp32, so that thresholds see the same precision everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.layers.attention import Attention
from elbert.engine.layers.float import TORCH, Prepared, prepare_float
from elbert.engine.layers.formula import forward
from elbert.engine.layers.int8 import check_int8, measure_ranges, prepare_int8
from elbert.engine.layers.linear import Linear, packs
from elbert.engine.layers.places import Places
from elbert.engine.rows.packed import Layout
from elbert.modeling.activations import Activation, activation
from elbert.modeling.weights import EncoderWeights, HeadWeights, LayerWeights, converted

_Weights = TypeVar("_Weights")


@dataclass(frozen=True, slots=True)
class _Head:
    """One exit. Its products are plain: for a few rows on cold caches a prepared one takes twice as long."""

    weights: HeadWeights
    act: Activation

    @classmethod
    def prepare(cls, head: HeadWeights) -> _Head:
        return cls(head, activation(head.activation))

    def __call__(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """Return (logits [rows, C], pooled [rows, H]) for what it reads, [rows, H], all fp32."""
        head = self.weights
        given = read if head.final_norm is None else TORCH.norm(read, head.final_norm)
        pooled = self.act(F.linear(given, head.dense.weight, head.dense.bias))
        if head.norm is not None:
            pooled = TORCH.norm(pooled, head.norm)
        return F.linear(pooled, head.out.weight, head.out.bias), pooled


class TorchBackend:
    """Embed, step and head over an `EncoderWeights`, in plain torch.

    Args:
        weights: the model as plain matrices. Of those that are laid out anew for the machine nothing is kept.
        dtype: torch.float32, torch.bfloat16, torch.int8 (CPU with AVX2), torch.float16 (CUDA).
        device: where to compute.

    Attributes:
        embedding, projection: how tokens become hidden states; no projection where none is needed.
        layers: per exit the prepared layers it runs; a layer that the model shares is one object.

    Raises:
        UsageError: int8 on a machine that can't.
    """

    name = "torch"

    def __init__(self, weights: EncoderWeights, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        kept = torch.float32 if dtype == torch.int8 else dtype  # what all but the products of an int8 layer is in
        table = _on(weights.embedding, kept, device)
        self.projection = None if table.projection is None else Linear(table.projection)
        self.embedding = table
        # A layer or head that the model shares is prepared once and stays one object.
        distinct = {id(layer): layer for group in weights.layers for layer in group}
        places = Places(device)  # layers are told apart by the tensors of the model, which conversion would copy
        half = kept == torch.bfloat16 and packs(device, kept)
        layers = {
            key: prepare_float(_on(layer, kept, device), Attention(layer, places, half=half))
            for key, layer in distinct.items()
        }
        if dtype == torch.int8:
            layers = self._in_int8(weights, distinct, layers, places)
        self.layers = [[layers[id(layer)] for layer in group] for group in weights.layers]
        heads = {id(head): _Head.prepare(_on(head, torch.float32, device)) for head in weights.heads}
        self._heads = [heads[id(head)] for head in weights.heads]
        self.shared_heads = len(heads) == 1

    def _in_int8(
        self, weights: EncoderWeights, distinct: dict[int, LayerWeights], exact: dict[int, Prepared], places: Places
    ) -> dict[int, Prepared]:
        """Return every distinct layer with its products in 8 bits, by the `id` of its weights, as `exact` is."""
        check_int8(self.device)
        ranges = measure_ranges(weights, self.embed, [exact[id(layer)] for group in weights.layers for layer in group])
        return {
            key: prepare_int8(
                _on(layer, torch.float32, self.device),
                Attention(layer, places, half=packs(self.device, torch.bfloat16)),
                ranges[id(exact[key])],
            )
            for key, layer in distinct.items()
        }

    def embed(self, ids: Tensor, token_types: Tensor | None, layout: Layout) -> Tensor:
        """Return [size, H] for packed `ids` ([size] int64, see `Layout.packed`); `token_types` None means all zero."""
        table = self.embedding
        hidden = table.word.index_select(0, ids)
        if table.position is not None:
            hidden += self._placed(table.position, layout)
        if table.token_type is not None:
            hidden += table.token_type[0] if token_types is None else F.embedding(token_types, table.token_type)
        return self.normed(hidden)

    def _placed(self, position: Tensor, layout: Layout) -> Tensor:
        """Return [size, E], the embeddings of places; those of one row lie behind one another in the table."""
        start = self.embedding.position_offset
        end = start + layout.size
        if layout.rows == 1 and end <= len(position):
            return position[start:end]
        return F.embedding(layout.positions() + start, position)

    def normed(self, summed: Tensor) -> Tensor:
        """Return [..., H] for the sums [..., E] of a token's embeddings: norm and projection."""
        table, projection = self.embedding, self.projection
        if table.norm_last:
            return TORCH.norm(summed if projection is None else projection(summed), table.norm)
        hidden = TORCH.norm(summed, table.norm)
        return hidden if projection is None else projection(hidden)

    def step(self, hidden: Tensor, layout: Layout, depth: int) -> tuple[Tensor, Layout]:
        """Run encoder step `depth` (0-based) on packed `hidden` [size, H]; `layout` stays."""
        for layer in self.layers[depth]:
            hidden = forward(TORCH, layer.spec, layer, hidden, layout)
        return hidden, layout

    def head(self, read: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Return (logits [rows, C], pooled [rows, H]) in fp32 of exit `depth` (0-based) for `read` [rows, H]."""
        return self._heads[depth](read.float())


def _on(weights: _Weights, dtype: torch.dtype, device: torch.device) -> _Weights:
    """Return a copy of a weights dataclass with every floating-point tensor on `device` in `dtype`."""
    return converted(weights, lambda tensor: tensor.to(device=device, dtype=dtype).contiguous())
