"""The mathematics on a padded block in plain torch: every shape fixed, nothing that waits for the device.

Beside `step.py`, which computes on packed rows whose number changes at every layer. Holds no weights of its own but
those of exits with a head each, side by side; all others are the ones that `TorchBackend` has prepared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.backends.backend import Backend
from elbert.engine.backends.torch import TorchBackend
from elbert.engine.layers.float import FloatLayer
from elbert.modeling.activations import activation
from elbert.modeling.weights import EncoderWeights


def fits(weights: EncoderWeights, backend: Backend) -> bool:
    """Tell whether a `DenseModel` can run this: every layer the same, heads of one kind, no 8-bit products."""
    kinds = {head.dense_activation for head in weights.heads}
    return (
        isinstance(backend, TorchBackend)
        and backend.dtype != torch.int8
        and weights.shared_layers
        and (backend.shared_heads or len(kinds) == 1)
    )


class DenseModel:
    """Embed, step and head for `rows` rows of `length` places each; what a row does not fill is masked.

    Args:
        weights: the model; see `fits`.
        backend: where its matrices lie prepared.

    Attributes:
        device: where to compute.
        dtype: what hidden states are in.
        typed: whether the family has token types.
        hidden_size: H.

    Raises:
        TypeError: a layer that `fits` would have refused.
    """

    def __init__(self, weights: EncoderWeights, backend: TorchBackend) -> None:
        self._backend = backend
        self._layers: list[FloatLayer] = []
        for layer in backend.layers[0]:
            if not isinstance(layer, FloatLayer):
                raise TypeError(f"a {type(layer).__name__} can't run on padded blocks: ask `fits` first")
            self._layers.append(layer)
        self._heads = None if backend.shared_heads else _OwnHeads(weights, backend.device)
        self.device = backend.device
        self.dtype = backend.dtype
        self.typed = weights.embedding.token_type is not None
        self.hidden_size = weights.hidden_size

    def position_embeddings(self, length: int, *, typed: bool) -> Tensor:
        """Return [length, E], what a place adds to the token in it.

        Args:
            length: places of a row; those beyond what the model reads never hold a token.
            typed: False adds the first token type here, so that `embed` need not.
        """
        table = self._backend.embedding
        last = table.position.shape[0] - 1 - table.position_offset
        at = torch.arange(length, device=self.device).clamp(max=last) + table.position_offset
        added = F.embedding(at, table.position)
        return added if typed or table.token_type is None else added + table.token_type[0]

    def embed(self, ids: Tensor, types: Tensor | None, positions: Tensor) -> Tensor:
        """Return [rows, length, H].

        Args:
            ids: [rows, length] token ids; any known id where a row has ended.
            types: [rows, length] token types; None where all are the first.
            positions: `position_embeddings` of this length, typed where there are types.
        """
        backend, table = self._backend, self._backend.embedding
        hidden = F.embedding(ids, table.word) + positions
        if types is not None and table.token_type is not None:
            hidden = hidden + F.embedding(types, table.token_type)
        eps = backend.embedding_norm_eps
        hidden = F.layer_norm(hidden, hidden.shape[-1:], table.norm_weight, table.norm_bias, eps)
        return hidden if backend.projection is None else backend.projection(hidden)

    def step(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Run the layers between two exits.

        Args:
            hidden: [rows, length, H].
            bias: [rows, 1, 1, length] to add to attention scores: 0 at real tokens, minus infinity elsewhere.
        """
        rows, length, size = hidden.shape
        for layer in self._layers:
            query, key, value = layer.qkv(hidden).view(rows, length, 3, layer.heads, -1).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)  # [rows, heads, length, width]
            hidden = layer.after_attention(hidden, attended.transpose(1, 2).reshape(rows, length, size))
        return hidden

    def head(self, cls: Tensor, layer: Tensor) -> tuple[Tensor, Tensor]:
        """Return (logits [rows, C], pooled [rows, H]) in fp32 of each row's own exit.

        Args:
            cls: [rows, H].
            layer: [rows] int64 layers each row has run, 1-based.
        """
        return self._backend.head(cls, 0) if self._heads is None else self._heads(cls.float(), layer)


class _OwnHeads:
    """A head per exit: all of them are computed for every row, and the row's own is picked.

    M small products in one cost a few hundredths of a layer; picking matrices per row would move far more memory.
    """

    def __init__(self, weights: EncoderWeights, device: torch.device) -> None:
        heads, self._exits = weights.heads, len(weights.heads)
        self._act = activation(heads[0].dense_activation)
        self._dense_weight = _stacked([head.dense_weight for head in heads], device)  # [M H, H]
        self._dense_bias = _stacked([head.dense_bias for head in heads], device)
        self._out_weight = _stacked([head.out_weight for head in heads], device)  # [M C, H]
        self._out_bias = _stacked([head.out_bias for head in heads], device)

    def __call__(self, cls: Tensor, layer: Tensor) -> tuple[Tensor, Tensor]:
        exits = layer - 1
        pooled = self._own(self._act(F.linear(cls, self._dense_weight, self._dense_bias)), exits)
        return self._own(F.linear(pooled, self._out_weight, self._out_bias), exits), pooled

    def _own(self, values: Tensor, exits: Tensor) -> Tensor:
        """Pick each row's exit out of [rows, M n]: [rows, n]."""
        by_exit = values.view(len(values), self._exits, -1)
        places = exits[:, None, None].expand(-1, 1, by_exit.shape[-1])
        return by_exit.gather(1, places).squeeze(1)


def _stacked(parts: list[Tensor], device: torch.device) -> Tensor:
    return torch.cat([part.detach() for part in parts]).to(device=device, dtype=torch.float32)
