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

# Longest row, in tokens, that takes plain products on a CPU: they win up to here at head widths 32 and 64, and their
# scores stay within 100 MB at 16,384 tokens in flight. In fp32 always: batched bf16 products need a new plan for every
# number of rows and every length.
_PLAIN_UP_TO = 128


def attend(qkv: Tensor, layout: Layout, heads: int) -> Tensor:
    """Return packed [size, H] from packed `qkv` [size, 3H]: query, key, value behind one another.

    Args:
        qkv: [size, 3H].
        layout: where the rows are.
        heads: attention heads; divides H.
    """
    padded = qkv[: layout.tokens] if layout.mask is None else qkv.index_select(0, layout.pad)
    block = padded.view(layout.rows, layout.longest, 3, heads, -1).permute(2, 0, 3, 1, 4)
    plain = qkv.device.type == "cpu" and layout.longest <= _PLAIN_UP_TO
    out = (_plain if plain else _fused)(block, layout)  # [rows, heads, longest, H / heads]
    out = out.transpose(1, 2).reshape(-1, qkv.shape[-1] // 3)
    whole = layout.mask is None and layout.size == layout.tokens
    return out if whole else out.index_select(0, layout.unpad)


def _fused(block: Tensor, layout: Layout) -> Tensor:
    """Attend in torch's own kernel; `block` is [3, rows, heads, longest, width].

    On a CPU in fp32, as `_plain`: a short row must not come out otherwise for a long one beside it.
    """
    q, k, v = block.float() if block.device.type == "cpu" else block
    mask = None if layout.mask is None else layout.mask[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).to(block.dtype)


def _plain(block: Tensor, layout: Layout) -> Tensor:
    """Attend in two batched products, softmax(q kᵀ / sqrt(width)) v, in fp32; arguments as `_fused`."""
    _, rows, heads, longest, width = block.shape
    parts = torch.empty(block.shape, dtype=torch.float32).copy_(block)
    q, k, v = parts.view(3, rows * heads, longest, width)
    start, beta = q.new_empty(1), 0
    if layout.mask is not None:
        closed = layout.closed[:, None, None, :].expand(rows, heads, 1, longest)
        start, beta = closed.reshape(rows * heads, 1, longest), 1
    scores = torch.baddbmm(start, q, k.transpose(1, 2), beta=beta, alpha=1 / math.sqrt(width))
    return torch.bmm(scores.softmax(-1), v).view(rows, heads, longest, width).to(block.dtype)
