"""Self-attention of packed rows: every row over its own tokens. Lays rows out as a padded block and brings them back.

Short rows take plain batched products, which cost about half of torch's fused attention there on a CPU; long rows take
the fused kernel, whose memory grows with the length and not with its square.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.packed import Layout

# Longest row, in tokens, that takes plain products on a CPU: they win up to here at head widths 32 and 64, in fp32 and
# bf16, and their scores stay within 100 MB at 16,384 tokens in flight.
_PLAIN_UP_TO = 128


def attend(qkv: Tensor, layout: Layout, heads: int) -> Tensor:
    """Return packed [tokens, H] from packed `qkv` [tokens, 3H]: query, key, value behind one another.

    Args:
        qkv: [tokens, 3H].
        layout: where the rows are.
        heads: attention heads; divides H.
    """
    mask = layout.mask
    padded = qkv if mask is None else qkv.index_select(0, layout.pad)
    block = padded.view(layout.rows, layout.longest, 3, heads, -1).permute(2, 0, 3, 1, 4)
    plain = qkv.device.type == "cpu" and layout.longest <= _PLAIN_UP_TO
    out = _plain(block, mask) if plain else _fused(block, mask)  # [rows, heads, longest, H / heads]
    out = out.transpose(1, 2).reshape(-1, qkv.shape[-1] // 3)
    return out if mask is None else out.index_select(0, layout.unpad)


def _fused(block: Tensor, mask: Tensor | None) -> Tensor:
    """Attend in torch's own kernel; `block` is [3, rows, heads, longest, width], `mask` [rows, longest] or None."""
    q, k, v = block
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None, :])


def _plain(block: Tensor, mask: Tensor | None) -> Tensor:
    """Attend in two batched products, softmax(q kᵀ / sqrt(width)) v; arguments as `_fused`."""
    _, rows, heads, longest, width = block.shape
    q, k, v = block.contiguous().view(3, rows * heads, longest, width)
    start, beta = q.new_empty(1), 0
    if mask is not None:
        nothing = q.new_zeros(mask.shape).masked_fill_(~mask, -math.inf)
        start, beta = nothing.repeat_interleave(heads, 0).unsqueeze(1), 1  # [rows * heads, 1, longest]
    scores = torch.baddbmm(start, q, k.transpose(1, 2), beta=beta, alpha=1 / math.sqrt(width))
    return torch.bmm(scores.softmax(-1), v).view(rows, heads, longest, width)
