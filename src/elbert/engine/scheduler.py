"""Continuous depth-wise batching: which rows are stepped together, who leaves, who takes the freed places.

Rows whose next layer has the same weights share one step, at whatever depth they stand: all rows of an ALBERT, the rows
at one depth of a BERT. The scheduler knows rows, a backend and a policy; where rows come from and who waits for them is
the caller's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elbert.engine.backends.backend import Backend
from elbert.engine.forks import check_process
from elbert.engine.placement import most_tokens
from elbert.engine.recorder import Recorder
from elbert.engine.requests import Arrival, Departures, check_arrival
from elbert.engine.rows.blocks import Integers
from elbert.engine.rows.packed import Layout, Rows
from elbert.errors import NotFiniteError
from elbert.exits import ExitPolicy, State
from elbert.exits.ops import to_numpy
from elbert.exits.scores import probabilities
from elbert.modeling.weights import EncoderWeights
from elbert.results import ExitOutput

# Texts taken in, as a multiple of the rows in flight, after which a row that waits for its pool to fill waits no more.
_PATIENCE = 64

# What the scheduler is for. "throughput": texts are embedded in blocks ahead of their places, pools wait until they are
# full or somebody in them has waited long. "latency": texts are embedded for the very next step, and the rows that came
# first are stepped.
Mode: TypeAlias = Literal["throughput", "latency"]


class Scheduler:
    """Holds the rows in flight, steps them, and lets them go; first come, first served, and no timer anywhere.

    Nobody waits for ever and memory is bounded: of rows that wait for their pool to fill, those that came more than
    64 x `batch_size` texts ago are stepped as they are.

    Args:
        weights: the model; says which layers share their weights.
        backend: runs embed, step and head.
        policy: decides who leaves; at the last layer everybody does.
        batch_size: rows stepped together at most, and with distinct layers the rows that make a pool worth a step.
        max_tokens: tokens stepped together at most, but for a row that alone has more; None for `most_tokens` of the
            backend's device and dtype.
        mode: what to be good at, see `Mode`; no text's answer depends on it.
        recorder: if given, is shown every exit's output.
    """

    def __init__(
        self,
        weights: EncoderWeights,
        backend: Backend,
        policy: ExitPolicy,
        *,
        batch_size: int = 32,
        max_tokens: int | None = None,
        mode: Mode = "throughput",
        recorder: Recorder | None = None,
    ) -> None:
        check_process()
        self._weights = weights
        self._backend = backend
        self._policy = policy
        self._batch_size = batch_size
        self._max_tokens = most_tokens(backend.device, backend.dtype) if max_tokens is None else max_tokens
        self._mode = mode
        self._recorder = recorder
        self._device = backend.device
        pool_of = _pools(weights)
        self._first_depth = [pool_of.index(pool) for pool in range(pool_of[-1] + 1)]
        self._pool_of = np.array(pool_of)
        self._earliest = policy.earliest(weights.num_layers)
        self._pools: dict[int, Rows] = {}
        self._staged: Rows | None = None  # embedded together; the first `_moved` of them have found a place
        self._moved = 0
        self._waiting: deque[Arrival] = deque()
        self._admitted = 0

    @property
    def busy(self) -> bool:
        """True while any row is in flight."""
        return bool(self._pools or self._staged or self._waiting)

    @property
    def full(self) -> bool:
        """True while enough rows wait for a place."""
        staged = self._staged.count - self._moved if self._staged else 0
        return len(self._waiting) + staged >= self._batch_size

    def admit(self, arrival: Arrival) -> None:
        """Take one row in: it is embedded with its fellows, and steps as soon as there is a place.

        Args:
            arrival: its `index` is no other's that is here.

        Raises:
            UsageError: it has no token, or more than the model reads.
        """
        check_arrival(arrival, self._weights.max_length)
        self._waiting.append(arrival)

    def cancel(self, index: int) -> bool:
        """Forget the row that was admitted as `index`, and free its place at once; False where it is not here."""
        for place, arrival in enumerate(self._waiting):
            if arrival.index == index:
                del self._waiting[place]
                return True
        if self._staged is not None and index in self._staged.index[self._moved :]:
            left = np.arange(self._moved, self._staged.count)
            left = left[self._staged.index[left] != index]
            self._staged, self._moved = (self._staged.keep(left) if len(left) else None), 0
            return True
        pool = next((pool for pool, rows in self._pools.items() if index in rows.index), None)
        if pool is None:
            return False
        self._forget(pool, (index,))
        return True

    def _forget(self, pool: int, indices: Sequence[int]) -> None:
        """Take the rows of these indices out of a pool."""
        rows = self._pools.pop(pool)
        left = np.flatnonzero(~np.isin(rows.index, indices))
        if len(left):
            self._pools[pool] = rows.keep(left)

    @torch.inference_mode()
    def step(self, *, draining: bool = False) -> Departures | None:
        """Run one layer on one pool of rows and return who left, or None.

        An exception loses nobody: all rows are as they were, but for those that a NotFiniteError names.

        Args:
            draining: for throughput: True when no more rows will come, so that pools that are not full are stepped too.

        Raises:
            NotFiniteError: exits said NaN or infinity; its `rows` are the indices of the texts, which are given up.
        """
        self._fill_places()
        pool = self._choose(draining)
        if pool is None:
            return None
        before = dict(self._pools)
        try:
            return self._run(pool)
        except BaseException as error:
            self._pools = before
            if isinstance(error, NotFiniteError):
                self._forget(pool, error.rows)
            raise

    def _run(self, pool: int) -> Departures | None:
        """Run the next layer of a pool and return who left, or None."""
        rows = self._taken(pool)
        hidden, layout = self._backend.step(rows.hidden, rows.layout, self._first_depth[pool])
        rows = replace(rows, hidden=hidden, layout=layout, layer=rows.layer + 1)
        looked = self._looked_at(rows)
        if not len(looked):
            self._put(rows)
            return None
        leave, state, output = self._decide(rows, looked)
        rows = replace(rows, state=state)
        left = np.flatnonzero(leave)
        if not len(left):
            self._put(rows)
            return None
        gone = looked[left]
        departures = _departures(rows, gone, output, left)
        if len(gone) < rows.count:
            self._put(rows.keep(np.delete(np.arange(rows.count), gone)))
        return departures

    def _fill_places(self) -> None:
        """Move rows that wait into the first pool, as many as fit."""
        while self._staged or self._waiting:
            if self._staged is None:
                ahead = self._ahead()
                if not ahead:
                    return
                self._staged, self._moved = self._embedded(ahead), 0
                for _ in range(ahead):
                    self._waiting.popleft()
            staged, start = self._staged, self._moved
            end = start + self._room(staged.layout.lengths[start:])
            if end == start:
                return
            first = self._pools.get(0)
            if first is not None:
                self._pools[0] = first.join(staged, start, end)
            else:
                whole = end - start == staged.count
                self._pools[0] = staged if whole else staged.keep(np.arange(start, end))
            self._staged, self._moved = (staged, end) if end < staged.count else (None, 0)

    def _room(self, lengths: Integers) -> int:
        """Return how many of the rows to come, given their lengths in order, the first pool has places for."""
        first = self._pools.get(0)
        if first is None:
            free, tokens = self._batch_size, self._max_tokens
        else:
            free, tokens = self._batch_size - first.count, self._max_tokens - first.tokens
        if free <= 0:
            return 0
        fitting = _fitting(lengths[:free], tokens)
        return fitting if first is not None else max(fitting, 1)  # a row too long for the budget runs alone

    def _ahead(self) -> int:
        """Return how many waiting texts to embed: a block, or for latency those that the next step has places for."""
        block = list(islice(self._waiting, min(self._batch_size, len(self._waiting))))
        return self._room(np.array([len(arrival.ids) for arrival in block])) if self._mode == "latency" else len(block)

    def _embedded(self, ahead: int) -> Rows:
        """Return the first `ahead` texts that wait as rows that have run no layer."""
        arrivals = list(islice(self._waiting, ahead))
        device = self._device
        layout = Layout(np.array([len(arrival.ids) for arrival in arrivals]), device)
        ids = layout.packed(arrival.ids for arrival in arrivals)
        types = None
        if any(arrival.token_types for arrival in arrivals):
            types = layout.packed(arrival.token_types or [0] * len(arrival.ids) for arrival in arrivals)
        rows = Rows(
            hidden=self._backend.embed(ids, types, layout),
            layout=layout,
            index=np.array([arrival.index for arrival in arrivals]),
            arrived=np.arange(self._admitted, self._admitted + ahead),
            layer=np.zeros(len(arrivals), np.int64),
            state=self._policy.start(len(arrivals), self._weights.num_labels),
        )
        self._admitted += ahead
        return rows

    def _choose(self, draining: bool) -> int | None:
        """Return the pool to step.

        For latency the deepest, which holds the rows that came first; newcomers gather in the first meanwhile. For
        throughput the one where somebody has waited too long, else the deepest full one; while draining, else the
        shallowest, so that rows gather.
        """
        if not self._pools:
            return None
        if len(self._first_depth) == 1:
            return 0
        if self._mode == "latency":
            return max(self._pools)
        first, oldest = min((int(rows.arrived.min()), pool) for pool, rows in self._pools.items())
        if self._admitted - first > _PATIENCE * self._batch_size:
            return oldest
        for pool in sorted(self._pools, reverse=True):
            rows = self._pools[pool]
            if rows.count >= self._batch_size or rows.tokens >= self._max_tokens:
                return pool
        return min(self._pools) if draining or 0 in self._pools else None

    def _taken(self, pool: int) -> Rows:
        """Take the rows to step out of a pool: all, or those that came first where others' rows made it too large."""
        rows = self._pools.pop(pool)
        if rows.count <= self._batch_size and (rows.tokens <= self._max_tokens or rows.count == 1):
            return rows
        first = max(_fitting(rows.layout.lengths[: self._batch_size], self._max_tokens), 1)
        self._pools[pool] = rows.keep(np.arange(first, rows.count))
        return rows.keep(np.arange(first))

    def _looked_at(self, rows: Rows) -> Integers:
        """Return the numbers of the rows whose exits are worth asking: all, or those a row can leave at."""
        if self._recorder is not None or self._earliest <= 1:
            return np.arange(rows.count)
        return np.flatnonzero(rows.layer >= self._earliest)

    def _decide(self, rows: Rows, looked: Integers) -> tuple[NDArray[np.bool_], State, ExitOutput]:
        """Ask heads and policy about the rows `looked` at, which just ran a layer.

        Returns:
            Who of them leaves, [looked] bool; the new state; what the exits said, [looked, C].
        """
        everyone = len(looked) == rows.count
        layer = rows.layer if everyone else rows.layer[looked]
        starts = rows.layout.starts if everyone else rows.layout.starts[torch.from_numpy(looked)]
        logits, pooled = self._heads(rows.hidden.index_select(0, starts), layer)
        if self._recorder is not None:
            self._recorder.write(rows, logits, pooled)
        kind, said = self._weights.problem_type, to_numpy(logits)
        read = to_numpy(pooled) if "pooled" in self._policy.needs else None
        output = ExitOutput(probabilities(said, kind), said, read, kind)
        try:
            leave, state = self._policy.update(rows.state, output, layer)
        except NotFiniteError as error:
            bad = list(error.rows)
            texts = rows.index[looked[bad]].tolist()
            raise NotFiniteError(f"text {texts[0] + 1}", int(layer[bad[0]]), texts) from None
        return leave | (layer >= self._weights.num_layers), state, output

    def _heads(self, cls: Tensor, layer: Integers) -> tuple[Tensor, Tensor]:
        """Return (logits, pooled) of each row's own exit."""
        if self._backend.shared_heads:
            return self._backend.head(cls, 0)
        depths = np.unique(layer).tolist()
        if len(depths) == 1:
            return self._backend.head(cls, depths[0] - 1)
        logits = cls.new_empty(len(cls), self._weights.num_labels, dtype=torch.float32)
        pooled = cls.new_empty(cls.shape, dtype=torch.float32)
        for depth in depths:
            here = torch.from_numpy(np.flatnonzero(layer == depth)).to(cls.device)
            logits[here], pooled[here] = self._backend.head(cls[here], depth - 1)
        return logits, pooled

    def _put(self, rows: Rows) -> None:
        """Bring rows to the pools of their next layers."""
        if len(self._first_depth) == 1:
            self._put_in(0, rows)
            return
        pools = self._pool_of[rows.layer]
        for pool in np.unique(pools).tolist():
            here = np.flatnonzero(pools == pool)
            self._put_in(pool, rows if len(here) == rows.count else rows.keep(here))

    def _put_in(self, pool: int, rows: Rows) -> None:
        held = self._pools.get(pool)
        self._pools[pool] = rows if held is None else held.join(rows)


def _fitting(lengths: Integers, tokens: int) -> int:
    """Return how many rows of these lengths, in order, have at most `tokens` tokens together."""
    return int(np.searchsorted(lengths.cumsum(), tokens, side="right"))


def _departures(rows: Rows, gone: Integers, output: ExitOutput, left: Integers) -> Departures:
    """Return what the rows `gone` take with them; they stand at `left` in `output`."""
    return Departures(
        index=torch.from_numpy(rows.index[gone]),
        exit_layer=torch.from_numpy(rows.layer[gone]),
        logits=torch.from_numpy(output.logits[left]),
        probs=torch.from_numpy(output.probs[left]),
    )


def _pools(weights: EncoderWeights) -> list[int]:
    """Number the layers so that neighbours with the very same weights share a number: one pool each."""
    pool_of = [0]
    for before, here in zip(weights.layers, weights.layers[1:], strict=False):
        same = len(before) == len(here) and all(a is b for a, b in zip(before, here, strict=True))
        pool_of.append(pool_of[-1] if same else pool_of[-1] + 1)
    return pool_of
