"""Where would every text have left? Runs a policy's own `update` over recorded outputs; runs no model."""

from __future__ import annotations

import torch
from torch import Tensor

from elbert.errors import NotFiniteError, UsageError
from elbert.exits.base import ExitPolicy
from elbert.exits.state import select
from elbert.results import ExitOutput, LayerOutputs, ProblemType


def replay(policy: ExitPolicy, outputs: LayerOutputs | Tensor, problem_type: ProblemType | None = None) -> Tensor:
    """Return the exit layer of every text, [N] int64 from 1 to M; at layer M every text leaves.

    Args:
        policy: any exit policy.
        outputs: recorded outputs, or just their probs [N, M, C] (regression: values).
        problem_type: how to read them; by default as recorded, and single-label for a tensor.

    Raises:
        UsageError: the tensor is not [N, M, C] with M >= 1 and C >= 1.
        NotFiniteError: an output is NaN or infinite; the line names text (0-based) and layer.
    """
    recorded = _recorded(outputs, problem_type)
    texts, layers, classes = recorded.probs.shape
    exit_layer = torch.full((texts,), layers, dtype=torch.int64, device=recorded.probs.device)
    rows = torch.arange(texts, device=recorded.probs.device)
    state = policy.start(texts, num_labels=classes, device=recorded.probs.device)
    for depth in range(1, layers):
        if not len(rows):
            break
        leave, state = policy.update(state, _at(recorded, depth, rows), torch.full_like(rows, depth))
        if leave.any():
            exit_layer[rows[leave]] = depth
            stay = (~leave).nonzero().squeeze(1)
            rows, state = rows[stay], select(state, stay)
    return exit_layer


def _recorded(outputs: LayerOutputs | Tensor, problem_type: ProblemType | None) -> ExitOutput:
    """Return everything recorded as one output of shape [N, M, ...], checked."""
    probs = outputs.probs if isinstance(outputs, LayerOutputs) else outputs
    if probs.dim() != 3 or 0 in probs.shape[1:]:
        raise UsageError(f"replay was given a tensor of shape {tuple(probs.shape)}; allowed: [texts, layers, classes]")
    if not probs.sum().isfinite():
        bad = (~probs.isfinite()).any(-1).nonzero().tolist()
        if bad:
            raise NotFiniteError(f"row {bad[0][0]}", bad[0][1] + 1, [row for row, _ in bad])
    if isinstance(outputs, LayerOutputs):
        return ExitOutput(probs, outputs.logits, outputs.pooled, problem_type or outputs.problem_type)
    kind = problem_type or "single_label_classification"
    return ExitOutput(probs, _logits(probs.float(), kind), None, kind)


def _logits(probs: Tensor, problem_type: ProblemType) -> Tensor:
    """Return logits that give these probabilities back."""
    if problem_type == "regression":
        return probs
    return probs.logit() if problem_type == "multi_label_classification" else probs.log()


def _at(recorded: ExitOutput, depth: int, rows: Tensor) -> ExitOutput:
    """Return what the exit after layer `depth` said about `rows`."""
    everyone = len(rows) == len(recorded.probs)

    def pick(values: Tensor) -> Tensor:
        return values[:, depth - 1] if everyone else values[rows, depth - 1]

    pooled = None if recorded.pooled is None else pick(recorded.pooled)
    return ExitOutput(pick(recorded.probs), pick(recorded.logits), pooled, recorded.problem_type)
