"""Self-attention of packed rows: every row over its own tokens, in blocks of rows of about one length.

Short rows take plain batched products, which cost about half of torch's fused attention there on a CPU; long rows take
the fused kernel, whose memory grows with the length and not with its square.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.blocks import Block
from elbert.engine.packed import Layout

# Longest row of a block, in tokens, that takes plain products on a CPU. In fp32 always: batched bf16 products need a
# new plan for every number of rows and every length.
_PLAIN_UP_TO = 256


def attend(qkv: Tensor, layout: Layout, heads: int) -> Tensor:
    """Return packed [size, H] from packed `qkv` [size, 3H]: query, key, value behind one another.

    Args:
        qkv: [size, 3H].
        layout: where the rows are.
        heads: attention heads; divides H.
    """
    padded = qkv if layout.pad is None else qkv.index_select(0, layout.pad)
    out = qkv.new_empty(layout.padded_size, qkv.shape[-1] // 3)
    for block in layout.blocks:
        shape = (block.rows, block.length, 3, heads, -1)
        part = padded[block.first : block.end].view(shape).permute(2, 0, 3, 1, 4)  # [3, rows, heads, length, width]
        plain = qkv.device.type == "cpu" and block.length <= _PLAIN_UP_TO
        attended = (_plain if plain else _fused)(part, block).to(qkv.dtype)  # [rows, heads, length, width]
        out[block.first : block.end].view(block.rows, block.length, heads, -1).copy_(attended.transpose(1, 2))
    if layout.unpad is not None:
        return out.index_select(0, layout.unpad)
    out[layout.tokens :] = 0
    return out


def _fused(part: Tensor, block: Block) -> Tensor:
    """Attend in torch's own kernel; `part` is [3, rows, heads, length, width].

    On a CPU in fp32, as `_plain`: a short row must not come out otherwise for a long one beside it.
    """
    q, k, v = part.contiguous().float() if part.device.type == "cpu" else part
    mask = None if block.closed is None else block.closed[:, None].to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _plain(part: Tensor, block: Block) -> Tensor:
    """Attend in two batched products, softmax(q kᵀ / sqrt(width)) v, in fp32; arguments as `_fused`."""
    _, rows, heads, length, width = part.shape
    parts = part.contiguous().float()  # in this order: a copy that converts and moves at once is many times slower
    q, k, v = parts.view(3, rows * heads, length, width)
    start, beta = q.new_empty(1), 0
    if block.closed is not None:
        start, beta = block.closed[:, None].expand(rows, heads, 1, length).reshape(rows * heads, 1, length), 1
    scores = torch.baddbmm(start, q, k.transpose(1, 2), beta=beta, alpha=1 / math.sqrt(width))
    return torch.bmm(scores.softmax(-1), v).view(rows, heads, length, width)
