"""MPNet: BERT's layers with a bias by distance that all of them share, no token types, and RoBERTa's head on <s>."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elbert.modeling.families.base import Family, LayerNames, Shape, Step
from elbert.modeling.families.tensors import Tensors
from elbert.modeling.weights import PositionWeights

_BIAS = "mpnet.encoder.relative_attention_bias.weight"

# Fixed in transformers' code, whatever the configuration says.
_BUCKETS = 32
_PADDING_ID = 1


class MPNet(Family):
    """`MPNetForSequenceClassification` (Song et al., arXiv 2004.09297)."""

    model_type = "mpnet"
    prefix = "mpnet"
    token_type = None
    layer = LayerNames(
        qkv=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        out="attention.attn.o",
        attention_norm="attention.LayerNorm",
        up=("intermediate.dense",),
        down="output.dense",
        output_norm="output.LayerNorm",
    )
    dense = "classifier.dense"
    dropout = "classifier.dropout"
    cls_dropout = "classifier.dropout"
    out = "classifier.out_proj"
    head_activation = "tanh"
    fields: ClassVar[dict[str, str]] = {
        **{name: key for name, key in Family.fields.items() if name != "type_vocab_size"},
        "relative_attention_num_buckets": "relative_attention_num_buckets",
    }

    def stepping(self, backbone: nn.Module, hidden: Tensor, attention_mask: Tensor | None) -> Step:
        """Return how to call a step: with the shared bias and a mask that is added to scores."""
        bias = self.encoder(backbone).encoder.compute_position_bias(hidden)  # [B, heads, S, S]
        mask = None
        if attention_mask is not None:
            mask = (1 - attention_mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        return lambda step, hidden: step(hidden, mask, bias)[0]

    def position_offset(self, config: Any) -> int:  # noqa: ARG002
        """Return the padding id + 1."""
        return _PADDING_ID + 1

    def extra_shapes(self, config: Any) -> dict[str, Shape]:
        """Return the shape of the bias."""
        return {_BIAS: (config.relative_attention_num_buckets, config.num_attention_heads)}

    def positions(self, tensors: Tensors, config: Any) -> Callable[[str], PositionWeights]:
        """Return the bias by distance, the same tensor for all layers."""
        table, places = tensors[_BIAS].detach(), config.max_position_embeddings
        buckets = relative_buckets(torch.arange(1 - places, places)).to(table.device)
        bias = F.embedding(buckets, table).T.contiguous()  # [heads, 2P - 1]
        return lambda name: PositionWeights(relative_bias=bias)  # noqa: ARG005


def relative_buckets(distance: Tensor, buckets: int = _BUCKETS, most: int = 128) -> Tensor:
    """Return the bucket of each distance, key minus query: near ones their own, far ones by their logarithm (T5).

    Args:
        distance: int64.
        buckets: how many, half of them for keys ahead.
        most: distance from which all share the last bucket.
    """
    half, far = buckets // 2, distance.abs()
    exact = half // 2
    by_logarithm = exact + (torch.log(far.clamp(min=1) / exact) / math.log(most / exact) * (half - exact)).long()
    bucket = torch.where(far < exact, far, by_logarithm.clamp(max=half - 1))
    return bucket + (distance > 0) * half
