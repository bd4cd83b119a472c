"""Self-attention of packed rows: every row over its own tokens, in blocks of rows of about one length.

On a CPU most rows take plain batched products, which cost about half of torch's fused attention there; only the longest
take the fused kernel, whose memory grows with the length and not with its square.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.rows.blocks import SHORT, Block
from elbert.engine.rows.packed import Layout

# Longest block, in tokens, that takes plain products on a CPU.
_PLAIN_UP_TO = {torch.float32: 256, torch.bfloat16: 512}


def attend(qkv: Tensor, layout: Layout, heads: int, *, half: bool) -> Tensor:
    """Return packed [size, H] from packed `qkv` [size, 3H]: query, key, value behind one another.

    Args:
        qkv: [size, 3H].
        layout: where the rows are.
        heads: attention heads; divides H.
        half: compute rows of more than `SHORT` tokens in bfloat16, whose batched products need a new plan for every
            number of rows and every length, all others in float32. Only on a CPU that has such products, see `packs`.
    """
    on_cpu = qkv.device.type == "cpu"
    blocks = layout.blocks_apart if half else layout.blocks
    padded = qkv if blocks.pad is None else qkv.index_select(0, blocks.pad)
    out = qkv.new_empty(blocks.places, qkv.shape[-1] // 3)
    for block in blocks.blocks:
        shape = (block.rows, block.length, 3, heads, -1)
        part = padded[block.first : block.end].view(shape).permute(2, 0, 3, 1, 4)  # [3, rows, heads, length, width]
        plain = False
        if on_cpu:
            dtype = torch.bfloat16 if half and block.length > SHORT else torch.float32
            part = part.contiguous().to(dtype)  # a copy that converts and moves at once is many times slower
            plain = block.length <= _PLAIN_UP_TO[dtype]
        attended = (_plain if plain else _fused)(part, block).to(qkv.dtype)  # [rows, heads, length, width]
        out[block.first : block.end].view(block.rows, block.length, heads, -1).copy_(attended.transpose(1, 2))
    if blocks.unpad is not None:
        return out.index_select(0, blocks.unpad)
    out[layout.tokens :] = 0
    return out


def _fused(part: Tensor, block: Block) -> Tensor:
    """Attend in torch's own kernel; `part` is [3, rows, heads, length, width]."""
    q, k, v = part
    mask = None if block.closed is None else block.closed[:, None].to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _plain(part: Tensor, block: Block) -> Tensor:
    """Attend in two batched products, softmax(q kᵀ / sqrt(width)) v; arguments as `_fused`, `part` contiguous."""
    _, rows, heads, length, width = part.shape
    q, k, v = part.view(3, rows * heads, length, width)
    scores = torch.bmm(q * (1 / math.sqrt(width)), k.transpose(1, 2))
    if block.closed is not None:
        scores.view(rows, heads, length, length).add_(block.closed[:, None])
    return torch.bmm(scores.softmax(-1), v).view(rows, heads, length, width)
