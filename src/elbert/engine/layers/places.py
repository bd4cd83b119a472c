"""What attention knows of places beside the tokens' own content: biases, windows, rotation, DeBERTa's terms.

Matrices over all pairs of places depend on a row's length only. They are kept for the lengths used last, for all layers
that share their tensors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from elbert.modeling.spec import LayerSpec
from elbert.modeling.weights import Disentangled, PositionWeights, converted

# Bytes of matrices that one kind of bias keeps: those of every length up to 128 for twelve heads, some at 512.
_KEPT = 32 << 20


class ByLength:
    """Tensors that depend on a row's length, made when first asked for; the latest are kept."""

    def __init__(self, make: Callable[[int], Tensor]) -> None:
        self._make = make
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._bytes = 0

    def __call__(self, length: int) -> Tensor:
        """Return the tensor for rows of `length` places."""
        found = self._kept.get(length)
        if found is not None:
            self._kept.move_to_end(length)
            return found
        made = self._make(length)
        self._kept[length] = made
        self._bytes += made.nbytes
        while self._bytes > _KEPT and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return made


def pairs(table: Tensor, length: int) -> Tensor:
    """Return [..., length, length], query before key, of a table [..., 2P - 1] by the distance of key from query."""
    middle = table.shape[-1] // 2
    near = table[..., middle - length + 1 : middle + length]  # [..., 2 length - 1]
    return near.unfold(-1, length, 1).flip(-2)


class DistanceBias:
    """What is added to scores by distance alone: a bias per head, and minus infinity outside the window.

    Args:
        relative_bias: as in `PositionWeights`, fp32.
        window: as in `LayerSpec`.
        device: where scores are.
    """

    def __init__(self, relative_bias: Tensor | None, window: int | None, device: torch.device) -> None:
        self._window = window
        self._bias = relative_bias
        self._device = device
        self._by_length = ByLength(self._made)

    def __call__(self, length: int) -> Tensor | None:
        """Return [heads or 1, length, length] fp32; None where nothing is added."""
        if self._bias is None and (self._window is None or self._window >= length - 1):
            return None
        return self._by_length(length)

    def _made(self, length: int) -> Tensor:
        distance = torch.arange(1 - length, length, device=self._device)
        outside = torch.zeros(len(distance), device=self._device)
        if self._window is not None:
            outside = outside.masked_fill(distance.abs() > self._window, -torch.inf)
        table = outside[None]
        if self._bias is not None:
            middle = self._bias.shape[-1] // 2
            table = self._bias[:, middle - length + 1 : middle + length].to(self._device) + table
        return pairs(table, length)


class Rotary:
    """Rotary position embedding of queries and keys.

    Args:
        base: of the angles.
        width: of a head; even.
        device: where queries and keys are.
    """

    def __init__(self, base: float, width: int, device: torch.device) -> None:
        self._frequencies = rotary_frequencies(base, width).to(device)
        self._by_length = ByLength(self._made)

    def __call__(self, part: Tensor) -> Tensor:
        """Rotate `part` [2, rows, heads, length, width], queries and keys, in their own dtype."""
        cos, sin = self._by_length(part.shape[-2]).to(part.dtype)
        first, second = part.chunk(2, -1)
        rotated: Tensor = part * cos + torch.cat((-second, first), -1) * sin
        return rotated

    def _made(self, length: int) -> Tensor:
        angles = torch.arange(length, device=self._frequencies.device)[:, None] * self._frequencies
        angles = torch.cat((angles, angles), -1)
        return torch.stack((angles.cos(), angles.sin()))  # [2, length, width]


def rotary_frequencies(base: float, width: int) -> Tensor:
    """Return [width / 2], the angle from one place to the next of each pair of units."""
    return 1.0 / (base ** (torch.arange(0, width, 2, dtype=torch.float32) / width))


class Terms:
    """DeBERTa's content-to-position and position-to-content terms of the scores.

    Args:
        terms: as in `PositionWeights`.
        heads: attention heads.
        index: `terms.index` by a row's length, see `pairs`.
    """

    def __init__(self, terms: Disentangled, heads: int, index: ByLength) -> None:
        self._by_distance = terms.index.tolist()
        self._by_length = index
        self._key, self._query = (
            None if table is None else table.view(len(table), heads, -1).permute(1, 2, 0).contiguous()
            for table in (terms.key, terms.query)
        )  # [heads, width, R] each

    def __call__(self, query: Tensor, key: Tensor) -> Tensor:
        """Return [rows, heads, length, length] for scaled `query` and plain `key` [rows, heads, length, width]."""
        length, middle = query.shape[-2], len(self._by_distance) // 2
        # Only the relative positions that occur in so short a row are multiplied; they never grow with the distance.
        near = slice(self._by_distance[middle + length - 1], self._by_distance[middle - length + 1] + 1)
        index = (self._by_length(length) - near.start).expand(*query.shape[:2], -1, -1)
        added = query.new_zeros(()).expand(*query.shape[:2], length, length)
        if self._key is not None:
            added = added + (query @ self._key[..., near].to(query.dtype)).gather(-1, index)
        if self._query is not None:
            added = added + (key @ self._query[..., near].to(key.dtype)).gather(-1, index.mT).mT
        return added


class Places:
    """Makes what layers know of places, one object for all layers that share the tensors behind it.

    Args:
        device: where layers compute.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._made: dict[tuple[Any, ...], Any] = {}

    def bias(self, positions: PositionWeights, spec: LayerSpec) -> DistanceBias | None:
        """Return what a layer adds to scores by distance."""
        table = positions.relative_bias
        if table is None and spec.window is None:
            return None
        made = self._once((id(table), spec.window), lambda: DistanceBias(table, spec.window, self._device))
        return cast(DistanceBias, made)

    def rotary(self, spec: LayerSpec, width: int) -> Rotary | None:
        """Return how a layer rotates queries and keys."""
        base = spec.rotary_base
        if base is None:
            return None
        return cast(Rotary, self._once((base, width), lambda: Rotary(base, width, self._device)))

    def terms(self, positions: PositionWeights, spec: LayerSpec) -> Terms | None:
        """Return DeBERTa's terms."""
        given = positions.disentangled
        if given is None:
            return None
        index = given.index.to(self._device)
        by_length = self._once((id(given.index),), lambda: ByLength(lambda length: pairs(index, length)))
        return Terms(converted(given, lambda table: table.to(self._device)), spec.heads, by_length)

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
