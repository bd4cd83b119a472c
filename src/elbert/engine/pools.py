"""Where rows in flight stand: a pool of rows per distinct layer, and which of them is stepped next.

Rows whose next layer has the same weights share a pool, at whatever depth they stand: all rows of an ALBERT, the rows
at one depth of a BERT. Nobody waits for ever: a row whose pool doesn't fill up is stepped once enough others came.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from itertools import pairwise

import numpy as np

from elbert.engine.rows.blocks import Integers
from elbert.engine.rows.packed import Rows
from elbert.modeling.weights import EncoderWeights

# Texts taken in, as a multiple of the rows in flight, after which a row that waits for its pool to fill waits no more.
_PATIENCE = 64


class Pools:
    """Rows by the weights they need next.

    Args:
        weights: the model; says which layers share their weights.
        batch_size: rows stepped together at most, and with distinct layers the rows that make a pool worth a step.
        max_tokens: tokens stepped together at most, but for a row that alone has more.
        eager: step the rows that came first, instead of waiting for full pools.

    Attributes:
        held: the rows of each pool that has any.
    """

    def __init__(self, weights: EncoderWeights, batch_size: int, max_tokens: int, *, eager: bool) -> None:
        pool_of = _pool_of(weights)
        self._first_depth = [pool_of.index(pool) for pool in range(pool_of[-1] + 1)]
        self._pool_of = np.array(pool_of)
        self._batch_size, self._max_tokens, self._eager = batch_size, max_tokens, eager
        self.held: dict[int, Rows] = {}

    def first_depth(self, pool: int) -> int:
        """Return the depth, 0-based, whose weights the rows of a pool need next."""
        return self._first_depth[pool]

    def room(self, lengths: Integers) -> int:
        """Return how many of the rows to come, given their lengths in order, the first pool has places for."""
        free, tokens = self.free()
        if free <= 0:
            return 0
        fitting = _fitting(lengths[:free], tokens)
        return fitting if 0 in self.held else max(fitting, 1)  # a row too long for the budget runs alone

    def free(self) -> tuple[int, int]:
        """Return the rows and the tokens that the first pool has places for."""
        first = self.held.get(0)
        if first is None:
            return self._batch_size, self._max_tokens
        return self._batch_size - first.count, self._max_tokens - first.tokens

    def enter(self, rows: Rows, start: int, end: int) -> None:
        """Bring the rows from number `start` up to `end`, which have run no layer, to the first pool."""
        first = self.held.get(0)
        if first is not None:
            self.held[0] = first.join(rows, start, end)
        else:
            self.held[0] = rows if end - start == rows.count else rows.keep(np.arange(start, end))

    def choose(self, admitted: int, *, draining: bool, hurried: AbstractSet[int]) -> int | None:
        """Return the pool to step.

        One that holds a row in a hurry first. Eagerly the deepest, which holds the rows that came first; newcomers
        gather in the first meanwhile. Else the one where somebody has waited too long, else the deepest full one; while
        draining, else the shallowest, so that rows gather.

        Args:
            admitted: texts taken in so far.
            draining: no more will come.
            hurried: the indices of rows in a hurry.
        """
        if not self.held or len(self._first_depth) == 1:
            return 0 if self.held else None
        if hurried:
            here = [pool for pool, rows in self.held.items() if not hurried.isdisjoint(rows.index.tolist())]
            if here:
                return max(here)
        if self._eager:
            return max(self.held)
        first, oldest = min((int(rows.arrived.min()), pool) for pool, rows in self.held.items())
        if admitted - first > _PATIENCE * self._batch_size:
            return oldest
        for pool in sorted(self.held, reverse=True):
            rows = self.held[pool]
            if rows.count >= self._batch_size or rows.tokens >= self._max_tokens:
                return pool
        return min(self.held) if draining or 0 in self.held else None

    def take(self, pool: int) -> Rows:
        """Take the rows to step out of a pool: all, or those that came first where others' rows made it too large."""
        rows = self.held.pop(pool)
        if rows.count <= self._batch_size and (rows.tokens <= self._max_tokens or rows.count == 1):
            return rows
        first = max(_fitting(rows.layout.lengths[: self._batch_size], self._max_tokens), 1)
        self.held[pool] = rows.keep(np.arange(first, rows.count))
        return rows.keep(np.arange(first))

    def put(self, rows: Rows) -> None:
        """Bring rows to the pools of their next layers."""
        if len(self._first_depth) == 1:
            self._put_in(0, rows)
            return
        pools = self._pool_of[rows.depth]
        for pool in np.unique(pools).tolist():
            here = np.flatnonzero(pools == pool)
            self._put_in(pool, rows if len(here) == rows.count else rows.keep(here))

    def forget(self, index: int) -> bool:
        """Take the row of this index out; False where it is in no pool."""
        pool = next((pool for pool, rows in self.held.items() if index in rows.index), None)
        if pool is None:
            return False
        rows = self.held.pop(pool)
        left = np.flatnonzero(rows.index != index)
        if len(left):
            self.held[pool] = rows.keep(left)
        return True

    def _put_in(self, pool: int, rows: Rows) -> None:
        held = self.held.get(pool)
        self.held[pool] = rows if held is None else held.join(rows)


def _fitting(lengths: Integers, tokens: int) -> int:
    """Return how many rows of these lengths, in order, have at most `tokens` tokens together."""
    if lengths.sum() <= tokens:
        return len(lengths)
    return int(np.searchsorted(lengths.cumsum(), tokens, side="right"))


def _pool_of(weights: EncoderWeights) -> list[int]:
    """Number the layers so that neighbours with the very same weights share a number: one pool each."""
    pool_of = [0]
    for before, here in pairwise(weights.layers):  # layers are equal where they are the same object
        pool_of.append(pool_of[-1] if before == here else pool_of[-1] + 1)
    return pool_of
