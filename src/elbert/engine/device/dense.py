"""A model on padded blocks in torch: every shape fixed, nothing that waits for the device.

`TorchBackend` computes on packed rows, whose number changes at every layer. Holds no weights of its own but those of
exits with a head each, side by side; all others are the ones that `TorchBackend` has prepared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.engine.backends.backend import Backend
from elbert.engine.backends.torch import TorchBackend
from elbert.engine.layers.float import Prepared, TorchOps
from elbert.engine.layers.formula import forward
from elbert.modeling.activations import activation
from elbert.modeling.weights import EncoderWeights, Matrix, converted


class _BlockOps(TorchOps):
    """The formula on padded blocks: what rows attend to is told by a bias."""

    def attention(self, qkv: Tensor, layer: Prepared, rows: Tensor) -> Tensor:  # type: ignore[override]
        """Return [rows, length, H] for [rows, length, 3H]; `rows` is the bias as `DenseModel.step` takes it."""
        count, length, _ = qkv.shape
        query, key, value = qkv.view(count, length, 3, layer.spec.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=rows, scale=layer.attention.scale)
        return attended.transpose(1, 2).reshape(count, length, -1)  # [rows, heads, length, width] until here


_BLOCK = _BlockOps()


def fits(weights: EncoderWeights, backend: Backend) -> bool:
    """Tell whether a `DenseModel` can run this.

    Every layer has to be the same, with attention that knows places from the embedding alone, heads of one kind that
    read [CLS] without norms, and no 8-bit products.
    """
    return (
        isinstance(backend, TorchBackend)
        and backend.dtype != torch.int8
        and weights.shared_layers
        and all(layer.attention.plain for layer in backend.layers[0])
        and weights.embedding.position is not None
        and (backend.shared_heads or len({head.activation for head in weights.heads}) == 1)
        and all(head.norm is None and head.final_norm is None and not head.reads_mean for head in weights.heads)
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
        TypeError: what `fits` would have refused.
    """

    def __init__(self, weights: EncoderWeights, backend: TorchBackend) -> None:
        self._backend = backend
        if not fits(weights, backend):
            raise TypeError("this model can't run on padded blocks: ask `fits` first")
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
        positions = table.position
        assert positions is not None  # `fits` has looked
        last = len(positions) - 1 - table.position_offset
        at = torch.arange(length, device=self.device).clamp(max=last) + table.position_offset
        added = F.embedding(at, positions)
        return added if typed or table.token_type is None else added + table.token_type[0]

    def embed(self, ids: Tensor, types: Tensor | None, positions: Tensor) -> Tensor:
        """Return [rows, length, H].

        Args:
            ids: [rows, length] token ids; any known id where a row has ended.
            types: [rows, length] token types; None where all are the first.
            positions: `position_embeddings` of this length, typed where there are types.
        """
        table = self._backend.embedding
        hidden = F.embedding(ids, table.word) + positions
        if types is not None and table.token_type is not None:
            hidden = hidden + F.embedding(types, table.token_type)
        return self._backend.normed(hidden)

    def step(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Run the layers between two exits.

        Args:
            hidden: [rows, length, H].
            bias: [rows, 1, 1, length] to add to attention scores: 0 at real tokens, minus infinity elsewhere.
        """
        for layer in self._backend.layers[0]:
            hidden = forward(_BLOCK, layer.spec, layer, hidden, bias)
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
        self._act = activation(heads[0].activation)
        self._dense = _stacked([head.dense for head in heads], device)  # to M H
        self._out = _stacked([head.out for head in heads], device)  # to M C

    def __call__(self, cls: Tensor, layer: Tensor) -> tuple[Tensor, Tensor]:
        exits = layer - 1
        pooled = self._own(self._act(F.linear(cls, self._dense.weight, self._dense.bias)), exits)
        return self._own(F.linear(pooled, self._out.weight, self._out.bias), exits), pooled

    def _own(self, values: Tensor, exits: Tensor) -> Tensor:
        """Pick each row's exit out of [rows, M n]: [rows, n]."""
        by_exit = values.view(len(values), self._exits, -1)
        places = exits[:, None, None].expand(-1, 1, by_exit.shape[-1])
        return by_exit.gather(1, places).squeeze(1)


def _stacked(parts: list[Matrix], device: torch.device) -> Matrix:
    """Return Linears of the same inputs as one in fp32, their outputs behind one another."""
    biases = [part.bias for part in parts if part.bias is not None]
    stacked = Matrix(torch.cat([part.weight for part in parts]), torch.cat(biases) if biases else None)
    return converted(stacked, lambda tensor: tensor.to(device=device, dtype=torch.float32))
