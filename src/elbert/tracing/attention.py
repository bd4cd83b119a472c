"""What [CLS] looks at in every layer. Decides nothing: answers come from the scheduler, this is for people to look at.

The fused attention of a step never holds its weights, so they are worked out here, beside the same `step`, in fp32 on
the CPU whatever the engine computes in.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.backends.torch import TorchBackend
from elbert.engine.requests import Arrival
from elbert.engine.rows.packed import Layout
from elbert.modeling.weights import EncoderWeights, LayerWeights


@torch.inference_mode()
def cls_attention(weights: EncoderWeights, arrival: Arrival) -> Tensor:
    """Return the attention from [CLS] to each token, averaged over heads, [M, tokens] fp32; every row adds up to 1.

    Where a layer holds several inner layers (ALBERT), the row is their mean. At full depth, whatever the policy.
    Source: the visualisation of Xie et al., "ELBERT", ICASSP 2021, before its sum over depth.

    Args:
        weights: the model as plain matrices.
        arrival: one tokenised text.
    """
    inner = [layer for group in weights.layers for layer in group]
    one_by_one = replace(weights, layers=tuple((layer,) for layer in inner))
    backend = TorchBackend(one_by_one, torch.float32, torch.device("cpu"))
    layout = Layout(np.array([len(arrival.ids)]))
    types = None if arrival.token_types is None else layout.packed([arrival.token_types])
    hidden = backend.embed(layout.packed([arrival.ids]), types, layout)  # [size, H]
    rows = []
    for depth, layer in enumerate(inner):
        rows.append(_first_row(hidden[: layout.tokens], layer, weights.num_attention_heads))
        hidden, _ = backend.step(hidden, layout, depth)
    sizes = [len(group) for group in weights.layers]
    return torch.stack([torch.stack(group).mean(0) for group in _grouped(rows, sizes)])


def _first_row(hidden: Tensor, layer: LayerWeights, heads: int) -> Tensor:
    """Return softmax(q_CLS K^T / sqrt(width)) of one layer, averaged over heads: [tokens, H] to [tokens]."""
    size = hidden.shape[1]
    weight, bias = (part.to("cpu", torch.float32) for part in (layer.qkv_weight, layer.qkv_bias))
    query = F.linear(hidden[:1], weight[:size], bias[:size]).view(heads, 1, -1)  # [heads, 1, width]
    key = F.linear(hidden, weight[size : 2 * size], bias[size : 2 * size])
    key = key.view(len(hidden), heads, -1).permute(1, 2, 0)  # [heads, width, tokens]
    row: Tensor = (query @ key / math.sqrt(query.shape[-1])).softmax(-1).mean((0, 1))
    return row


def _grouped(rows: list[Tensor], sizes: list[int]) -> list[list[Tensor]]:
    groups, start = [], 0
    for size in sizes:
        groups.append(rows[start : start + size])
        start += size
    return groups
