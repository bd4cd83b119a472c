"""How sure one exit is, row by row, in fp32: the measures that several policies share.

Every function takes probs [rows, C] and reduces over C only, so a row's score is the same whatever stands beside it.
The predicted label is argmax, the first of equals; for multi-label it is the set of labels with probability >=
`LABEL_CUT`; for regression the value itself, which has neither entropy nor confidence. One class under a softmax says
nothing, so C = 1 without `multi_label_classification` is read as regression.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from elbert.results import LABEL_CUT, ProblemType

# What sweeps try, fastest first: the paper's 1.0 … 0.1, then finer, since confident models need small thresholds.
PUZZLEMENT_GRID = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
CONFIDENCE_GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
TOLERANCE_GRID = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)


def reading(probs: Tensor, problem_type: ProblemType) -> ProblemType:
    """Return how to read `probs`: `problem_type`, but regression where it is a softmax over one class."""
    single = problem_type == "single_label_classification"
    return "regression" if single and probs.shape[-1] == 1 else problem_type


def entropy(probs: Tensor, problem_type: ProblemType) -> Tensor:
    """Return the entropy in nats, [rows]; finite where a probability is 0 or 1.

    For multi-label it is the greatest entropy of one label's yes or no; for regression infinite, below no threshold.
    """
    kind = reading(probs, problem_type)
    if kind == "regression":
        return probs.new_full(probs.shape[:-1], math.inf)
    if kind == "multi_label_classification":
        return _binary_entropy(probs).amax(-1)
    nats: Tensor = torch.special.entr(probs).sum(-1)
    return nats


def puzzlement(probs: Tensor, problem_type: ProblemType) -> Tensor:
    """Return the normalised entropy in [0, 1], [rows]: over log C, over log 2 for multi-label; 1 for regression."""
    kind = reading(probs, problem_type)
    if kind == "regression":
        return torch.ones_like(probs[..., 0])
    states = 2 if kind == "multi_label_classification" else probs.shape[-1]
    return entropy(probs, kind) / math.log(states)


def confidence(probs: Tensor, problem_type: ProblemType) -> Tensor:
    """Return the probability of the predicted label, [rows].

    For multi-label it is the least sure label's max(p, 1 - p); for regression minus infinite, above no threshold.
    """
    kind = reading(probs, problem_type)
    if kind == "regression":
        return probs.new_full(probs.shape[:-1], -math.inf)
    if kind == "multi_label_classification":
        return torch.maximum(probs, 1 - probs).amin(-1)
    return probs.amax(-1)


def same_label(previous: Tensor, current: Tensor, problem_type: ProblemType, tolerance: float) -> Tensor:
    """Return where two outputs say the same, [rows] bool: label, set of labels, or |difference| < tolerance."""
    kind = reading(current, problem_type)
    if kind == "regression":
        return ((previous - current).abs() < tolerance).all(-1)
    if kind == "multi_label_classification":
        return ((previous >= LABEL_CUT) == (current >= LABEL_CUT)).all(-1)
    return previous.argmax(-1) == current.argmax(-1)


def divergence(previous: Tensor, current: Tensor, problem_type: ProblemType) -> Tensor:
    """Return the Jensen-Shannon divergence of two outputs in nats, [rows], from 0 to log 2.

    For multi-label it is the greatest of one label's yes or no; for regression the greatest |difference|.
    """
    if reading(current, problem_type) == "regression":
        return (previous - current).abs().amax(-1)
    multi = problem_type == "multi_label_classification"
    nats = _binary_entropy if multi else torch.special.entr
    each: Tensor = nats((previous + current) / 2) - (nats(previous) + nats(current)) / 2
    return (each.amax(-1) if multi else each.sum(-1)).clamp_min(0)  # rounding can end below 0


def describe_label(probs: Tensor, problem_type: ProblemType) -> list[str]:
    """Return the prediction in words per row, for explanations."""
    kind = reading(probs, problem_type)
    if kind == "regression":
        return ["value " + ", ".join(f"{value:.4g}" for value in row) for row in probs.tolist()]
    if kind == "multi_label_classification":
        sets = [[str(index) for index, p in enumerate(row) if p >= LABEL_CUT] for row in probs.tolist()]
        return [f"labels {', '.join(chosen)}" if chosen else "no label" for chosen in sets]
    return [f"class {label}" for label in probs.argmax(-1).tolist()]


def _binary_entropy(probs: Tensor) -> Tensor:
    """Return the entropy in nats of each label's yes or no, shaped as `probs`."""
    nats: Tensor = torch.special.entr(probs) + torch.special.entr(1 - probs)
    return nats
