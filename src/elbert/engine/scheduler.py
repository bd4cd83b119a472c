"""Continuous depth-wise batching: which rows are stepped together, who leaves, who takes the freed places.

Rows whose next layer has the same weights share one step, at whatever depth they stand: all rows of an ALBERT, the rows
at one depth of a BERT. The scheduler knows rows, a backend and a policy; where rows come from and who waits for them is
the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from elbert.engine.packed import Layout, Rows
from elbert.engine.step import TorchBackend
from elbert.exits import ExitPolicy
from elbert.modeling.weights import EncoderWeights
from elbert.results import ExitOutput, ProblemType


@dataclass(frozen=True)
class Arrival:
    """One tokenised text on its way in.

    Attributes:
        index: the caller's number, given back when the row leaves.
        ids: token ids, special tokens included; at least one.
        token_types: segment ids beside `ids`; None means all zero.
    """

    index: int
    ids: list[int]
    token_types: list[int] | None = None


@dataclass(frozen=True)
class Departures:
    """Rows that left after one step, on the CPU.

    Attributes:
        index: [rows] the caller's numbers.
        exit_layer: [rows] layers each row ran, 1-based.
        logits: [rows, C] fp32.
        probs: [rows, C] fp32 softmax, sigmoid or raw value.
    """

    index: Tensor
    exit_layer: Tensor
    logits: Tensor
    probs: Tensor


def probabilities(logits: Tensor, problem_type: ProblemType) -> Tensor:
    """Return softmax, sigmoid or the raw values of `logits` [..., C], as the problem asks."""
    if problem_type == "single_label_classification":
        return logits.softmax(-1)
    return logits.sigmoid() if problem_type == "multi_label_classification" else logits


class Recorder:
    """Keeps every exit's logits of `rows` texts: `logits` [rows, M, C] fp32, `pooled` [rows, M, H] if asked for."""

    def __init__(self, rows: int, weights: EncoderWeights, *, pooled: bool) -> None:
        shape = (rows, weights.num_layers)
        self.logits = torch.empty(*shape, weights.num_labels)
        self.pooled = torch.empty(*shape, weights.hidden_size) if pooled else None

    def write(self, rows: Rows, logits: Tensor, pooled: Tensor) -> None:
        """Store what the exits just said of `rows`."""
        index, depth = rows.index.cpu(), rows.layer.cpu() - 1
        self.logits[index, depth] = logits.cpu()
        if self.pooled is not None:
            self.pooled[index, depth] = pooled.cpu()


class Scheduler:
    """Holds the rows in flight, steps them, and lets them go.

    Args:
        weights: the model; says which layers share their weights.
        backend: runs embed, step and head.
        policy: decides who leaves; at the last layer everybody does.
        places: rows stepped together at most (distinct layers: rows that make a pool worth a step).
        max_tokens: no row is admitted while it would bring the pool it joins over this many tokens, unless it is alone.
        recorder: if given, is shown every exit's output.
    """

    def __init__(
        self,
        weights: EncoderWeights,
        backend: TorchBackend,
        policy: ExitPolicy,
        *,
        places: int = 32,
        max_tokens: int = 16_384,
        recorder: Recorder | None = None,
    ) -> None:
        self._weights = weights
        self._backend = backend
        self._policy = policy
        self._places = places
        self._max_tokens = max_tokens
        self._recorder = recorder
        self._device = backend.device
        pool_of = _pools(weights)
        self._first_depth = [pool_of.index(pool) for pool in range(pool_of[-1] + 1)]
        self._pool_of = torch.tensor(pool_of, device=self._device)
        self._pools: dict[int, Rows] = {}
        self._waiting: list[Arrival] = []

    @property
    def busy(self) -> bool:
        """True while any row is in flight."""
        return bool(self._pools or self._waiting)

    def fits(self, arrival: Arrival) -> bool:
        """Tell whether the first pool has a place for this row now."""
        first = self._pools.get(0)
        rows = (first.count if first else 0) + len(self._waiting)
        tokens = (first.tokens if first else 0) + sum(len(waiting.ids) for waiting in self._waiting)
        return rows == 0 or (rows < self._places and tokens + len(arrival.ids) <= self._max_tokens)

    def admit(self, arrival: Arrival) -> None:
        """Take one row in; it is embedded with its fellows at the next `step`."""
        self._waiting.append(arrival)

    def step(self, *, draining: bool) -> Departures | None:
        """Run one layer on one pool of rows and return who left, or None.

        Args:
            draining: True when no more rows will come, so that pools that are not full are stepped too.
        """
        self._embed_waiting()
        pool = self._choose(draining)
        if pool is None:
            return None
        rows = self._pools.pop(pool)
        hidden = self._backend.step(rows.hidden, rows.layout, self._first_depth[pool])
        rows = Rows(hidden, rows.layout, rows.index, rows.layer + 1, rows.state)
        leave, state, output = self._decide(rows)
        rows = Rows(hidden, rows.layout, rows.index, rows.layer, state)
        if not leave.any():
            self._put(rows)
            return None
        if not leave.all():
            self._put(rows.keep(~leave))
        return Departures(
            rows.index[leave].cpu(), rows.layer[leave].cpu(), output.logits[leave].cpu(), output.probs[leave].cpu()
        )

    def _embed_waiting(self) -> None:
        """Turn the admitted texts into rows of the first pool."""
        if not self._waiting:
            return
        arrivals, self._waiting = self._waiting, []
        device = self._device
        layout = Layout(torch.tensor([len(arrival.ids) for arrival in arrivals], device=device))
        ids = torch.tensor([token for arrival in arrivals for token in arrival.ids], device=device)
        types = None
        if any(arrival.token_types for arrival in arrivals):
            filled = [arrival.token_types or [0] * len(arrival.ids) for arrival in arrivals]
            types = torch.tensor([kind for row in filled for kind in row], device=device)
        self._put_in(
            0,
            Rows(
                hidden=self._backend.embed(ids, types, layout),
                layout=layout,
                index=torch.tensor([arrival.index for arrival in arrivals], device=device),
                layer=torch.zeros(len(arrivals), dtype=torch.int64, device=device),
                state=self._policy.start(len(arrivals), num_labels=self._weights.num_labels, device=device),
            ),
        )

    def _choose(self, draining: bool) -> int | None:
        """Return the pool to step: the deepest full one; while draining, else the shallowest, so that rows gather."""
        if not self._pools:
            return None
        if len(self._first_depth) == 1:
            return 0
        for pool in sorted(self._pools, reverse=True):
            rows = self._pools[pool]
            if rows.count >= self._places or rows.tokens >= self._max_tokens:
                return pool
        return min(self._pools) if draining or 0 in self._pools else None

    def _decide(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor], ExitOutput]:
        """Ask heads and policy about rows that just ran a layer: who leaves ([rows] bool), new state, the outputs."""
        cls = rows.hidden.index_select(0, rows.layout.starts)
        logits, pooled = self._heads(cls, rows.layer)
        output = ExitOutput(
            probs=probabilities(logits, self._weights.problem_type),
            logits=logits,
            pooled=pooled,
            problem_type=self._weights.problem_type,
        )
        if self._recorder is not None:
            self._recorder.write(rows, logits, pooled)
        leave, state = self._policy.update(rows.state, output, rows.layer)
        return leave | (rows.layer >= self._weights.num_layers), state, output

    def _heads(self, cls: Tensor, layer: Tensor) -> tuple[Tensor, Tensor]:
        """Return (logits, pooled) of each row's own exit."""
        if self._backend.shared_heads:
            return self._backend.head(cls, 0)
        depths = layer.unique().tolist()
        if len(depths) == 1:
            return self._backend.head(cls, depths[0] - 1)
        logits = cls.new_empty(len(cls), self._weights.num_labels, dtype=torch.float32)
        pooled = cls.new_empty(cls.shape, dtype=torch.float32)
        for depth in depths:
            here = layer == depth
            logits[here], pooled[here] = self._backend.head(cls[here], depth - 1)
        return logits, pooled

    def _put(self, rows: Rows) -> None:
        """Bring rows to the pools of their next layers."""
        if len(self._first_depth) == 1:
            self._put_in(0, rows)
            return
        pools = self._pool_of[rows.layer]
        for pool in pools.unique().tolist():
            here = pools == pool
            self._put_in(pool, rows if bool(here.all()) else rows.keep(here))

    def _put_in(self, pool: int, rows: Rows) -> None:
        held = self._pools.get(pool)
        self._pools[pool] = rows if held is None else held.join(rows)


def _pools(weights: EncoderWeights) -> list[int]:
    """Number the layers so that neighbours with the very same weights share a number: one pool each."""
    pool_of = [0]
    for before, here in zip(weights.layers, weights.layers[1:], strict=False):
        same = len(before) == len(here) and all(a is b for a, b in zip(before, here, strict=True))
        pool_of.append(pool_of[-1] if same else pool_of[-1] + 1)
    return pool_of
