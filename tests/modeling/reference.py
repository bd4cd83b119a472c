"""A slow, obvious, one-text forward over the plain matrices, to hold every faster one against. Shared by the rooms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from elbert.modeling.weights import EncoderWeights, HeadWeights, LayerWeights

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: x * (x > 0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "tanh": lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1),
}
ACTIVATIONS["gelu_pytorch_tanh"] = ACTIVATIONS["gelu_new"]


def naive_logits(
    weights: EncoderWeights, input_ids: Sequence[int], token_type_ids: Sequence[int] | None = None
) -> Tensor:
    """Return every exit's logits [M, C] for one text, padding left out, computed in the weights' own dtype."""
    hidden = naive_embed(weights, input_ids, token_type_ids)  # [S, H]
    logits = []
    for step, head in zip(weights.layers, weights.heads, strict=True):
        for layer in step:
            hidden = naive_layer(layer, hidden, weights.num_attention_heads, weights.activation, weights.norm_eps)
        logits.append(naive_head(head, hidden[0]))
    return torch.stack(logits)


def naive_embed(weights: EncoderWeights, input_ids: Sequence[int], token_type_ids: Sequence[int] | None) -> Tensor:
    table = weights.embedding
    types = token_type_ids or [0] * len(input_ids)
    rows = []
    for place, (token, kind) in enumerate(zip(input_ids, types, strict=True)):
        row = table.word[token] + table.position[place + table.position_offset]
        if table.token_type is not None:
            row = row + table.token_type[kind]
        rows.append(naive_norm(row, table.norm_weight, table.norm_bias, weights.embedding_norm_eps))
    hidden = torch.stack(rows)
    if table.projection_weight is not None:
        hidden = hidden @ table.projection_weight.T + table.projection_bias
    return hidden


def naive_layer(layer: LayerWeights, hidden: Tensor, num_heads: int, activation: str, eps: float) -> Tensor:
    size = hidden.shape[1]
    width = size // num_heads
    query, key, value = (hidden @ layer.qkv_weight.T + layer.qkv_bias).split(size, dim=1)
    contexts = []
    for head in range(num_heads):
        columns = slice(head * width, (head + 1) * width)
        scores = query[:, columns] @ key[:, columns].T / math.sqrt(width)  # [S, S]
        contexts.append(torch.softmax(scores, dim=1) @ value[:, columns])
    attended = torch.cat(contexts, dim=1) @ layer.out_weight.T + layer.out_bias
    hidden = naive_norm(hidden + attended, layer.attention_norm_weight, layer.attention_norm_bias, eps)
    inner = ACTIVATIONS[activation](hidden @ layer.up_weight.T + layer.up_bias)
    outer = inner @ layer.down_weight.T + layer.down_bias
    return naive_norm(hidden + outer, layer.output_norm_weight, layer.output_norm_bias, eps)


def naive_head(head: HeadWeights, cls: Tensor) -> Tensor:
    pooled = ACTIVATIONS[head.dense_activation](head.dense_weight @ cls + head.dense_bias)
    return head.out_weight @ pooled + head.out_bias


def naive_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def assert_same_logits(given: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Fail with the largest difference unless both tensors agree within `tolerance`, absolutely."""
    assert given.shape == expected.shape, f"shapes differ: {tuple(given.shape)} and {tuple(expected.shape)}"
    assert not torch.isnan(given).any()
    worst = (given - expected).abs().max().item() if given.numel() else 0.0
    assert worst <= tolerance, f"logits differ by up to {worst:.3g}, allowed is {tolerance:.3g}"
