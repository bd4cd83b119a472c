"""A slow, obvious, one-text forward over the plain matrices, to hold every faster one against. Shared by the rooms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from elbert.modeling.weights import EncoderWeights, HeadWeights, LayerWeights, Matrix, Norm

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
            hidden = naive_layer(layer, hidden)
        logits.append(naive_head(head, naive_mean(head, hidden) if head.reads_mean else hidden[0]))
    return torch.stack(logits)


def naive_embed(weights: EncoderWeights, input_ids: Sequence[int], token_type_ids: Sequence[int] | None) -> Tensor:
    table = weights.embedding
    types = token_type_ids or [0] * len(input_ids)
    rows = []
    for place, (token, kind) in enumerate(zip(input_ids, types, strict=True)):
        row = table.word[token]
        if table.position is not None:
            row = row + table.position[place + table.position_offset]
        if table.token_type is not None:
            row = row + table.token_type[kind]
        rows.append(row)
    hidden = torch.stack(rows)
    if not table.norm_last:
        hidden = naive_norm(hidden, table.norm)
    if table.projection is not None:
        hidden = naive_product(hidden, table.projection)
    return naive_norm(hidden, table.norm) if table.norm_last else hidden


def naive_layer(layer: LayerWeights, hidden: Tensor) -> Tensor:
    """One layer of one text [S, H], pre-norm or post-norm, gated or not."""
    spec = layer.spec
    given = hidden if not spec.norm_first or layer.attention_norm is None else naive_norm(hidden, layer.attention_norm)
    hidden = hidden + naive_product(naive_attention(layer, naive_product(given, layer.qkv)), layer.out)
    if not spec.norm_first and layer.attention_norm is not None:
        hidden = naive_norm(hidden, layer.attention_norm)
    given = naive_norm(hidden, layer.output_norm) if spec.norm_first else hidden
    inner = naive_product(given, layer.up)
    if spec.gated:
        half = inner.shape[1] // 2
        inner = ACTIVATIONS[spec.activation](inner[:, :half]) * inner[:, half:]
    else:
        inner = ACTIVATIONS[spec.activation](inner)
    hidden = hidden + naive_product(inner, layer.down)
    return hidden if spec.norm_first else naive_norm(hidden, layer.output_norm)


def naive_attention(layer: LayerWeights, qkv: Tensor) -> Tensor:
    """Every query against every key, one head, one pair of places at a time where places matter."""
    spec, positions = layer.spec, layer.attention
    query, key, value = qkv.chunk(3, dim=1)
    tokens, width = len(qkv), query.shape[1] // spec.heads
    contexts = []
    for head in range(spec.heads):
        columns = slice(head * width, (head + 1) * width)
        queries, keys = query[:, columns], key[:, columns]
        if spec.rotary_base is not None:
            queries, keys = (naive_rotation(part, spec.rotary_base) for part in (queries, keys))
        scores = queries @ keys.T  # [S, S]
        extra = torch.zeros_like(scores)
        for i in range(tokens):
            for j in range(tokens):
                if positions.disentangled is not None:
                    terms = positions.disentangled
                    row = int(terms.index[len(terms.index) // 2 + j - i])
                    if terms.key is not None:
                        scores[i, j] += queries[i] @ terms.key[row, columns]
                    if terms.query is not None:
                        scores[i, j] += keys[j] @ terms.query[row, columns]
                if positions.relative_bias is not None:
                    extra[i, j] += positions.relative_bias[head, positions.relative_bias.shape[1] // 2 + j - i]
                if spec.window is not None and abs(i - j) > spec.window:
                    extra[i, j] = -math.inf
        weights = torch.softmax(scores / math.sqrt(spec.score_terms * width) + extra, dim=1)
        contexts.append(weights @ value[:, columns])
    return torch.cat(contexts, dim=1)


def naive_rotation(part: Tensor, base: float) -> Tensor:
    """Turn each pair (x, x + width / 2) of [S, width] by place / base^(2 x / width)."""
    half = part.shape[1] // 2
    turned = part.clone()
    for place in range(len(part)):
        for unit in range(half):
            angle = torch.tensor(place / base ** (2 * unit / part.shape[1]))
            first, second = part[place, unit], part[place, unit + half]
            turned[place, unit] = first * angle.cos() - second * angle.sin()
            turned[place, unit + half] = second * angle.cos() + first * angle.sin()
    return turned


def naive_mean(head: HeadWeights, hidden: Tensor) -> Tensor:
    if head.token_eps is not None:
        plain = Norm(torch.ones(hidden.shape[1], dtype=hidden.dtype), None, head.token_eps)
        hidden = torch.stack([naive_norm(row, plain) for row in hidden])
    return hidden.mean(0)


def naive_head(head: HeadWeights, cls: Tensor) -> Tensor:
    cls = cls if head.final_norm is None else naive_norm(cls, head.final_norm)
    pooled = ACTIVATIONS[head.activation](naive_product(cls, head.dense))
    return naive_product(pooled if head.norm is None else naive_norm(pooled, head.norm), head.out)


def naive_product(x: Tensor, matrix: Matrix) -> Tensor:
    return x @ matrix.weight.T if matrix.bias is None else x @ matrix.weight.T + matrix.bias


def naive_norm(x: Tensor, norm: Norm) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + norm.eps) * norm.weight
    return y if norm.bias is None else y + norm.bias


def assert_same_logits(given: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Fail with the largest difference unless both tensors agree within `tolerance`, absolutely."""
    assert given.shape == expected.shape, f"shapes differ: {tuple(given.shape)} and {tuple(expected.shape)}"
    assert not torch.isnan(given).any()
    worst = (given - expected).abs().max().item() if given.numel() else 0.0
    assert worst <= tolerance, f"logits differ by up to {worst:.3g}, allowed is {tolerance:.3g}"
