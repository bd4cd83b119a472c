"""ALBERT's forward pass in training: transformers' modules, in an order that does less work for the same result.

Query, key and value are one product, the scores are scaled where they are narrow, and the last layer's feed-forward
part is computed only in the places that somebody will read. Attention is plain matrix products: up to 512 tokens the
backward pass of fused attention is the slower one on a CPU.

B sequences of L tokens, H hidden units, M layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class JoinedLayer:
    """A layer, with its three input projections as one; joined once a pass, however often the layer is used.

    Attributes:
        layer: transformers' `AlbertLayer`.
        weight: [3H, H] of query, key and value.
        bias: [3H].
    """

    layer: Any
    weight: Tensor
    bias: Tensor

    def attend(self, hidden: Tensor) -> Tensor:
        """Return [B, L, H] what every place gathers from hidden states [B, L, H]."""
        attention = self.layer.attention
        heads, size = attention.num_attention_heads, attention.attention_head_size
        joined = F.linear(hidden, self.weight, self.bias).unflatten(-1, (3, heads, size))  # [B, L, 3, heads, size]
        query, key, value = joined.permute(2, 0, 3, 1, 4).contiguous().unbind(0)  # [B, heads, L, size] each
        scores = (query * attention.scaling) @ key.transpose(-1, -2)
        shares = attention.attention_dropout(scores.softmax(dim=-1))
        gathered: Tensor = (shares @ value).transpose(1, 2).flatten(-2)
        return gathered

    def finish(self, hidden: Tensor, gathered: Tensor) -> Tensor:
        """Return [..., H] the layer's output in places with hidden states [..., H] that gathered [..., H]."""
        layer, attention = self.layer, self.layer.attention
        attended = attention.LayerNorm(hidden + attention.output_dropout(attention.dense(gathered)))
        output: Tensor = layer.full_layer_layer_norm(layer.ff_chunk(attended) + attended)
        return output


def embed(albert: Any, ids: Tensor, token_types: Tensor, shift: int = 0) -> Tensor:
    """Return [B, L, H], what the first layer reads if the text stands at position `shift`.

    Args:
        albert: transformers' `AlbertModel`.
        ids: [B, L] token ids without padding.
        token_types: [B, L].
        shift: 0-based position of the first token.
    """
    positions = torch.arange(shift, shift + ids.shape[1], device=ids.device)[None]
    embedded = albert.embeddings(ids, token_type_ids=token_types, position_ids=positions)
    projected: Tensor = albert.encoder.embedding_hidden_mapping_in(embedded)
    return projected


def hidden_states(albert: Any, ids: Tensor, token_types: Tensor, places: Tensor | None = None) -> list[Tensor]:
    """Return the embedding and every layer's output: 1 + M · inner_group_num tensors [B, L, H].

    Args:
        albert: transformers' `AlbertModel`.
        ids: [B, L] token ids without padding.
        token_types: [B, L].
        places: [P] indices into the B · L places; the last layer is then [P, H], in these places only.
    """
    states = [embed(albert, ids, token_types)]
    *inner, last = _layers(albert.encoder)
    for layer in inner:
        states.append(layer.finish(states[-1], layer.attend(states[-1])))
    hidden, gathered = states[-1], last.attend(states[-1])
    if places is not None:
        hidden, gathered = hidden.flatten(0, 1)[places], gathered.flatten(0, 1)[places]
    return [*states, last.finish(hidden, gathered)]


def _layers(encoder: Any) -> Iterator[JoinedLayer]:
    """Yield the layers in the order they are applied; a shared one again and again."""
    groups = [[_join(layer) for layer in group.albert_layers] for group in encoder.albert_layer_groups]
    count = encoder.config.num_hidden_layers
    for index in range(count):
        yield from groups[int(index / (count / len(groups)))]  # transformers' rule, rounding included


def _join(layer: Any) -> JoinedLayer:
    attention = layer.attention
    parts = (attention.query, attention.key, attention.value)
    return JoinedLayer(layer, torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
