"""Steps behind which rows drop tokens: which of them stay, and where they then lie. How many stay is the policies'.

Positions are part of a state since the embedding, so states may move together; where layers look at distances between
tokens they may not, and such models keep all of theirs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from elbert.engine.backends.backend import Backend
from elbert.engine.backends.torch import TorchBackend
from elbert.engine.layers.float import Prepared, TorchOps
from elbert.engine.layers.formula import forward
from elbert.engine.rows.blocks import Integers, filled, on_device
from elbert.engine.rows.packed import Layout, Rows, rounded_up
from elbert.modeling.weights import EncoderWeights


def why_all_tokens_stay(weights: EncoderWeights, backend: Backend) -> str | None:
    """Return why rows can't drop tokens here, with what to do; None where they can."""
    if not isinstance(backend, TorchBackend):
        return f"backend {backend.name} runs whole rows; use backend torch"
    if weights.knows_distances:
        return "the model's layers look at distances between tokens; take a BERT, ALBERT, RoBERTa or ELECTRA"
    return None


def step(backend: Backend, rows: Rows, depth: int) -> tuple[Tensor, Layout]:
    """Run encoder step `depth` (0-based) on rows, and drop what their policies' schedules don't keep behind it.

    Where nobody drops a token it is the backend's step and nothing else.

    Returns:
        The new packed states and where the rows lie.
    """
    kept = _kept(rows)
    if kept is None or not isinstance(backend, TorchBackend):
        return backend.step(rows.hidden, rows.layout, depth)
    learned, weights = _learned(rows)
    if learned[kept < rows.layout.lengths].all():
        hidden, _ = backend.step(rows.hidden, rows.layout, depth)
        scores = np.zeros(rows.tokens, np.float32)
    else:
        receiving = Receiving()
        hidden = receiving.run(backend, rows.hidden, rows.layout, depth)
        scores = receiving.received[: rows.tokens].cpu().numpy()
    if learned.any():
        states = hidden[: rows.tokens].float().cpu().numpy()
        by_state = np.einsum("th,th->t", states, np.repeat(weights, rows.layout.lengths, axis=0))
        scores = np.where(np.repeat(learned, rows.layout.lengths), by_state, scores)
    return _best(hidden, rows.layout, scores, kept)


def _kept(rows: Rows) -> Integers | None:
    """Return how many tokens each row keeps behind its next layer, [rows]; None where all keep all they have."""
    groups = rows.memory.groups
    if all(group.policy.tokens is None for group in groups):
        return None
    kept = rows.layout.lengths.copy()
    for number, group in enumerate(groups):
        if group.policy.tokens is not None:
            own = rows.memory.rows_of(number)
            kept[own] = group.policy.tokens.kept(rows.length[own], rows.depth[own] + 1)
    return None if np.array_equal(kept, rows.layout.lengths) else kept


def _learned(rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return which rows rank tokens by a learned score, [rows], and its weights behind their next layer, [rows, H]."""
    learned = np.zeros(rows.count, bool)
    weights = np.zeros((rows.count, rows.hidden.shape[1]), np.float32)
    for number, group in enumerate(rows.memory.groups):
        schedule = group.policy.tokens
        if schedule is not None and schedule.weights is not None:
            own = rows.memory.rows_of(number)
            learned[own] = True
            weights[own] = schedule.weights[np.minimum(rows.depth[own], len(schedule.weights) - 1)]
    return learned, weights


class Receiving(TorchOps):
    """Computes layers and keeps, of the last of them, how much attention every token received."""

    received: Tensor

    def run(self, backend: TorchBackend, hidden: Tensor, layout: Layout, depth: int) -> Tensor:
        """Return what step `depth` (0-based) makes of packed `hidden` [size, H]; `received` is then [size] fp32."""
        for layer in backend.layers[depth]:
            hidden = forward(self, layer.spec, layer, hidden, layout)
        return hidden

    def attention(self, qkv: Tensor, layer: Prepared, rows: Layout) -> Tensor:
        """Return packed [size, H] for packed [size, 3H]."""
        attended, self.received = layer.attention.with_received(qkv, rows)
        return attended


def _best(hidden: Tensor, layout: Layout, scores: NDArray[np.float32], kept: Integers) -> tuple[Tensor, Layout]:
    """Return the states of each row's best tokens, in their order, and where they lie.

    Args:
        hidden: [size, H].
        layout: where the rows are.
        scores: [tokens] of each; of equals the earlier is better, and each row's first is better than all.
        kept: [rows] tokens to keep.
    """
    lengths = layout.lengths
    starts = lengths.cumsum() - lengths
    ranked = scores.copy()
    ranked[starts] = np.inf
    row = np.repeat(np.arange(layout.rows), lengths)
    order = np.lexsort((-ranked, row))  # stable, so row by row, best first
    rank = np.empty_like(order)
    rank[order] = np.arange(layout.tokens) - np.repeat(starts, lengths)
    places = np.flatnonzero(rank < np.repeat(kept, lengths))
    at = on_device(filled(places, rounded_up(len(places))), layout.device)
    return hidden.index_select(0, at), Layout(kept, layout.device)
