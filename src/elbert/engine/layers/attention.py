"""Self-attention of packed rows: every row over its own tokens, in blocks of rows of about one length.

Torch's fused kernel multiplies bfloat16 in tiles on a CPU that has them (AMX): there it takes half the time of plain
batched products or less. On any other CPU most rows take those, which cost about half of it; only the longest take the
fused kernel, whose memory grows with the length and not with its square.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.layers.places import Places
from elbert.engine.rows.blocks import SHORT, Block, Blocks
from elbert.engine.rows.packed import Layout
from elbert.modeling.weights import LayerWeights

# Longest block, in tokens, that takes plain products on a CPU.
_PLAIN_UP_TO = {torch.float32: 256, torch.bfloat16: 512}


class Attention:
    """The attention of one layer, prepared.

    Args:
        layer: the model's own, whatever is computed in.
        places: makes what the layer knows of places, shared by the layers of a model.
        half: compute rows of more than `SHORT` tokens in bfloat16, whose batched products need a new plan for every
            number of rows and every length; with tiles shorter ones too, if they come in bfloat16. All others in
            float32. Only on a CPU that has such products, see `packs`.

    Attributes:
        heads: attention heads.
        scale: what scores are multiplied by.
        plain: True where scores are products of query and key and nothing else, over the whole row.
    """

    __slots__ = ("_bias", "_half", "_rotary", "_terms", "_tiles", "heads", "plain", "scale")

    def __init__(self, layer: LayerWeights, places: Places, *, half: bool = False) -> None:
        spec, positions = layer.spec, layer.attention
        width = len(layer.qkv.weight) // (3 * spec.heads)
        self.heads = spec.heads
        self.scale = spec.scale(width)
        self._tiles = half and has_tiles()
        self._half = half
        self._bias = places.bias(positions, spec)
        self._rotary = places.rotary(spec, width)
        self._terms = places.terms(positions, spec)
        self.plain = self._bias is None and self._rotary is None and self._terms is None

    def __call__(self, qkv: Tensor, layout: Layout) -> Tensor:
        """Return packed [size, H] from packed `qkv` [size, 3H]: query, key, value behind one another."""
        return self._attended(qkv, layout, None)

    def with_received(self, qkv: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Return the same, and how much attention every token received in its row: [size] fp32, a row adds up to 1.

        It is the mean over heads and queries. The fused kernel never holds it, so all rows take plain products.
        """
        blocks = self._blocks(layout)
        received = torch.zeros(blocks.places, device=qkv.device)
        attended = self._attended(qkv, layout, received)
        return attended, received if blocks.unpad is None else received.index_select(0, blocks.unpad)

    def _blocks(self, layout: Layout) -> Blocks:
        return layout.blocks_apart if self._half else layout.blocks

    def _attended(self, qkv: Tensor, layout: Layout, received: Tensor | None) -> Tensor:
        """Return what `__call__` does; `received`, in padded order, is filled where it is given."""
        on_cpu = qkv.device.type == "cpu"
        blocks = self._blocks(layout)
        padded = qkv if blocks.pad is None else qkv.index_select(0, blocks.pad)
        out = qkv.new_empty(blocks.places, qkv.shape[-1] // 3)
        for block in blocks.blocks:
            shape = (block.rows, block.length, 3, self.heads, -1)
            part = padded[block.first : block.end].view(shape).permute(2, 0, 3, 1, 4)  # [3, rows, heads, length, width]
            batched = False
            if self._tiles and (block.length > SHORT or qkv.dtype == torch.bfloat16):
                part = part.bfloat16()
            elif on_cpu:
                dtype = torch.bfloat16 if self._half and block.length > SHORT else torch.float32
                part = part.contiguous().to(dtype)  # a copy that converts and moves at once is many times slower
                batched = block.length <= _PLAIN_UP_TO[dtype]
            if batched or received is not None:
                attended, weights = self._batched(part, block)
                if received is not None:
                    received[block.first : block.end] = _received(weights, block)
            else:
                attended = self._fused(part, block)
            attended = attended.to(qkv.dtype)
            out[block.first : block.end].view(block.rows, block.length, self.heads, -1).copy_(attended.transpose(1, 2))
        if blocks.unpad is not None:
            return out.index_select(0, blocks.unpad)
        out[layout.tokens :] = 0
        return out

    def first_row(self, qkv: Tensor) -> Tensor:
        """Return how much the first token looks at each, averaged over heads: [tokens] fp32.

        Args:
            qkv: [tokens, 3H] of one row.
        """
        part = qkv.float().view(1, len(qkv), 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, _ = self._rotated(part)
        scores = query @ key.mT * self.scale
        added = self._added(query, key)
        scores = scores if added is None else scores + added
        row: Tensor = scores[0, :, 0].softmax(-1).mean(0)
        return row

    def _rotated(self, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self._rotary is None:
            query, key, value = part
            return query, key, value
        query, key = self._rotary(part[:2])
        return query, key, part[2]

    def _added(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return what is added to the scores besides the mask, [rows or 1, heads or 1, length, length], or None."""
        bias = None if self._bias is None else self._bias(query.shape[-2])
        if self._terms is None:
            return None if bias is None else bias[None]
        terms = self._terms(query * self.scale, key * self.scale)
        return terms if bias is None else terms + bias

    def _fused(self, part: Tensor, block: Block) -> Tensor:
        """Attend in torch's own kernel; `part` is [3, rows, heads, length, width]."""
        query, key, value = self._rotated(part)
        mask = None if block.closed is None else block.closed[:, None]
        added = None if self.plain else self._added(query, key)
        if added is not None:
            mask = added if mask is None else mask + added
        mask = None if mask is None else mask.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scale)

    def _batched(self, part: Tensor, block: Block) -> tuple[Tensor, Tensor]:
        """Attend in two batched products, softmax(q kᵀ scale) v; arguments as `_fused`, `part` contiguous.

        Returns:
            What comes out, and the weights that were in between: [rows x heads, length, length], query before key.
        """
        _, rows, heads, length, width = part.shape
        query, key, value = self._rotated(part)
        added = None if self.plain else self._added(query, key)
        query, key, value = (each.reshape(rows * heads, length, width) for each in (query, key, value))
        scores = torch.bmm(query * self.scale, key.transpose(1, 2))
        if added is not None:
            scores.view(rows, heads, length, length).add_(added)
        if block.closed is not None:
            scores.view(rows, heads, length, length).add_(block.closed[:, None])
        weights = scores.softmax(-1)
        return torch.bmm(weights, value).view(rows, heads, length, width), weights


def _received(weights: Tensor, block: Block) -> Tensor:
    """Return [rows x length] fp32, the mean over heads and a row's own queries of the attention each key received."""
    by_query = weights.view(block.rows, -1, block.length, block.length).float().mean(1)
    if block.closed is None:
        return by_query.mean(1).flatten()
    own = (block.closed == 0).float()  # [rows, 1, length]
    return (own @ by_query / own.sum(-1, keepdim=True)).flatten()


@cache
def has_tiles() -> bool:
    """Tell whether torch's fused attention multiplies bfloat16 in tiles here, as x86 with AMX does."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
