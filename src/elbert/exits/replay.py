"""Where would every text have left? Runs a policy's own `update` over recorded outputs; runs no model."""

from __future__ import annotations

from typing import Any

import numpy as np

from elbert.arrays import Array, like, to_numpy
from elbert.errors import NotFiniteError, UsageError
from elbert.exits.base import ExitPolicy
from elbert.exits.state import select
from elbert.exits.words import by_words
from elbert.results import ExitOutput, LayerOutputs, ProblemType
from elbert.tasks import reading, task_of


def replay(policy: ExitPolicy, outputs: LayerOutputs | Array, problem_type: ProblemType | None = None) -> Array:
    """Return the exit layer of every text, [N] int64 from 1 to M, 0 where the words sufficed; at M every text leaves.

    With skip gates it is the count of layers that a text has run where it leaves: what it cost.

    Args:
        policy: any exit policy.
        outputs: recorded outputs, or just their probs [N, M, C] (regression: values), numpy's or torch's.
        problem_type: how to read them; by default as recorded, and single-label for an array.

    Returns:
        An array of the kind that was given.

    Raises:
        UsageError: the array is not [N, M, C] with M >= 1 and C >= 1, lacks what the policy needs, or was recorded with
            other tokens or gates than the policy has.
        NotFiniteError: an output is NaN or infinite; the line names text (0-based) and layer.
    """
    given: Any = outputs
    probs = given.probs if isinstance(outputs, LayerOutputs) else given
    said = recorded(outputs, problem_type, policy)
    texts, layers, classes = said.probs.shape
    exit_layer = np.full(texts, layers)
    left = leaving_at_layer_0(policy, outputs)
    exit_layer[left] = 0
    rows = np.flatnonzero(~left)
    state = policy.start(len(rows), classes)
    depths = _depths(outputs, texts, layers)
    last = policy.latest(layers)
    for ran in range(1, layers):
        through = depths[rows, ran - 1] == layers
        exit_layer[rows[through]] = ran  # with layers skipped: nobody asks a policy at the last exit
        if through.any():
            rows, state = rows[~through], select(state, ~through)
        if not len(rows):
            break
        leave, state = policy.update(state, _at(said, ran, rows), depths[rows, ran - 1])
        if policy.gates is not None:
            leave = leave | (depths[rows, ran] > last)
        if leave.any():
            exit_layer[rows[leave]] = ran
            stay = np.flatnonzero(~leave)
            rows, state = rows[stay], select(state, stay)
    return like(exit_layer, probs)


def _depths(outputs: LayerOutputs | Array, texts: int, layers: int) -> Array:
    """Return which layer said what stands at each place of a recording, [N, M]."""
    if isinstance(outputs, LayerOutputs) and outputs.depth is not None:
        return to_numpy(outputs.depth)
    return np.broadcast_to(np.arange(1, layers + 1), (texts, layers))


def leaving_at_layer_0(policy: ExitPolicy, outputs: LayerOutputs | Array) -> Array:
    """Return which texts leave at layer 0, [N] bool; where the others leave, and these would, the exits alone say."""
    if policy.words is None or not isinstance(outputs, LayerOutputs) or outputs.words is None:
        return np.zeros(len(outputs.probs if isinstance(outputs, LayerOutputs) else outputs), bool)
    return by_words(to_numpy(outputs.words), reading(outputs), policy.words)


def recorded(outputs: LayerOutputs | Array, problem_type: ProblemType | None, policy: ExitPolicy) -> ExitOutput:
    """Return everything recorded as one output of shape [N, M, ...], checked, as numpy's fp32.

    Args:
        outputs: as in `replay`.
        problem_type: likewise.
        policy: what it is to be read by.

    Raises:
        UsageError: it has another shape, lacks what the policy needs, or was recorded with other tokens than it keeps.
        NotFiniteError: an output is NaN or infinite.
    """
    given: Any = outputs
    probs = to_numpy(given.probs if isinstance(outputs, LayerOutputs) else given)
    if probs.ndim != 3 or 0 in probs.shape[1:]:
        raise UsageError(f"replay was given an array of shape {tuple(probs.shape)}; allowed: [texts, layers, classes]")
    finite = np.isfinite(probs)
    if not finite.all():
        bad = np.argwhere(~finite.all(-1)).tolist()
        raise NotFiniteError(f"row {bad[0][0]}", bad[0][1] + 1, [row for row, _ in bad])
    lacking = [name for name in sorted(policy.needs) if getattr(outputs, name, None) is None]
    if lacking:
        raise UsageError(f"exit policy {policy.name!r} reads {lacking[0]} states; record the outputs with them")
    if isinstance(outputs, LayerOutputs):
        for name, does in (("tokens", "keeps tokens"), ("gates", "skips layers by gates")):
            own, theirs = getattr(policy, name), getattr(outputs, name)
            if own != theirs:
                asked, given_with = (each and each.to_dict() for each in (own, theirs))
                raise UsageError(
                    f"exit policy {policy.name!r} {does} {asked}, the outputs were recorded with {given_with}; "
                    "record them with the policy's"
                )
        pooled = to_numpy(outputs.pooled) if "pooled" in policy.needs else None
        return ExitOutput(probs, to_numpy(outputs.logits), pooled, problem_type or outputs.problem_type)
    kind = problem_type or "single_label_classification"
    return ExitOutput(probs, task_of(kind).logits(probs), None, kind)


def _at(said: ExitOutput, depth: int, rows: Array) -> ExitOutput:
    """Return what the exit after layer `depth` said about `rows`."""
    everyone = len(rows) == len(said.probs)

    def at(values: Array) -> Array:
        return values[:, depth - 1] if everyone else values[rows, depth - 1]

    pooled = None if said.pooled is None else at(said.pooled)
    return ExitOutput(at(said.probs), at(said.logits), pooled, said.problem_type)
