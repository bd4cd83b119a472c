"""Attention while a run learns: in float32 on a CPU, whatever the products of the layers are in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

# torch's own fused attention and this one, as transformers' tables name them.
_TORCH, _FLOAT32 = "sdpa", "sdpa_float32"


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend as transformers does with `sdpa`, in float32; the answer is in the dtype that came."""
    mask = attention_mask
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.float()
    with torch.autocast("cpu", enabled=False):
        summed, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **options)
    return summed.to(query.dtype), None


AttentionInterface.register(_FLOAT32, _attend)
AttentionMaskInterface.register(_FLOAT32, sdpa_mask)


@contextmanager
def float32_attention(encoder: PreTrainedModel) -> Iterator[None]:
    """Within it the encoder attends in float32, if it lies on a CPU and attends by torch's fused attention.

    On CPUs, with AMX too, the backward pass of torch's fused attention is 2 to 13 times slower in bfloat16 than in
    float32 (batches of 32 texts of 128 to 12 tokens), which made it a third of a step; here it is 5 % of one.

    Args:
        encoder: a transformers model, bare or with a head; what it attends by is put back in the end.
    """
    changed = encoder.device.type == "cpu" and encoder.config._attn_implementation == _TORCH
    if changed:
        encoder.set_attn_implementation(_FLOAT32)
    try:
        yield
    finally:
        if changed:
            encoder.set_attn_implementation(_TORCH)
