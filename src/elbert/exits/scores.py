"""How sure one exit is, row by row, in fp32: the measures that several policies share.

Every function takes probs [rows, C], numpy's or torch's, and reduces over C only, so a row's score is the same whatever
stands beside it. The predicted label is argmax, the first of equals; for multi-label it is the set of labels with
probability >= `LABEL_CUT`; for regression the value itself, which has neither entropy nor confidence. One class under a
softmax says nothing, so C = 1 without `multi_label_classification` is read as regression.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from elbert.exits import ops
from elbert.exits.ops import Array, namespace
from elbert.results import LABEL_CUT, ProblemType

# What sweeps try, fastest first: the paper's 1.0 … 0.1, then finer, since confident models need small thresholds.
ENTROPY_GRID = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
CONFIDENCE_GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
TOLERANCE_GRID = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)


def probabilities(logits: Array, problem_type: ProblemType) -> Array:
    """Return softmax, sigmoid or the raw values of `logits` [..., C], as the problem asks."""
    if problem_type == "single_label_classification":
        return ops.softmax(logits)
    return ops.sigmoid(logits) if problem_type == "multi_label_classification" else logits


def reading(probs: Array, problem_type: ProblemType) -> ProblemType:
    """Return how to read `probs`: `problem_type`, but regression where it is a softmax over one class."""
    single = problem_type == "single_label_classification"
    return "regression" if single and probs.shape[-1] == 1 else problem_type


def entropy(probs: Array, problem_type: ProblemType) -> Array:
    """Return the entropy in nats, [rows]; finite where a probability is 0 or 1.

    For multi-label it is the greatest entropy of one label's yes or no; for regression infinite, below no threshold.
    """
    kind = reading(probs, problem_type)
    if kind == "regression":
        return namespace(probs).full_like(probs[..., 0], math.inf)
    if kind == "multi_label_classification":
        return -ops.amin(_binary(probs), -1)
    return -ops.xlogx(probs).sum(-1)


def normalised_entropy(probs: Array, problem_type: ProblemType) -> Array:
    """Return the entropy over log C (over log 2 for multi-label), [rows] in [0, 1]; infinite for regression."""
    multi = problem_type == "multi_label_classification"
    return entropy(probs, problem_type) / math.log(2 if multi else max(probs.shape[-1], 2))


def confidence(probs: Array, problem_type: ProblemType) -> Array:
    """Return the probability of the predicted label, [rows].

    For multi-label it is the least sure label's max(p, 1 - p); for regression minus infinite, above no threshold.
    """
    kind = reading(probs, problem_type)
    if kind == "regression":
        return namespace(probs).full_like(probs[..., 0], -math.inf)
    if kind == "multi_label_classification":
        return ops.amin(namespace(probs).maximum(probs, 1 - probs), -1)
    return ops.amax(probs, -1)


def same_label(previous: Array, current: Array, problem_type: ProblemType, tolerance: float) -> Array:
    """Return where two outputs say the same, [rows] bool: label, set of labels, or |difference| < tolerance."""
    kind = reading(current, problem_type)
    if kind == "regression":
        return (abs(previous - current) < tolerance).all(-1)
    if kind == "multi_label_classification":
        return ((previous >= LABEL_CUT) == (current >= LABEL_CUT)).all(-1)
    return previous.argmax(-1) == current.argmax(-1)


def divergence(previous: Array, current: Array, problem_type: ProblemType) -> Array:
    """Return the Jensen-Shannon divergence of two outputs in nats, [rows], from 0 to log 2.

    For multi-label it is the greatest of one label's yes or no; for regression the greatest |difference|.
    """
    if reading(current, problem_type) == "regression":
        return ops.amax(abs(previous - current), -1)
    multi = problem_type == "multi_label_classification"
    negative = _binary if multi else ops.xlogx
    each = (negative(previous) + negative(current)) / 2 - negative((previous + current) / 2)
    nats = ops.amax(each, -1) if multi else each.sum(-1)
    return nats.clip(min=0)  # rounding can end below 0


def describe_label(probs: Array, problem_type: ProblemType, labels: Sequence[str] = ()) -> list[str]:
    """Return the prediction in words per row, for explanations.

    Args:
        probs: [rows, C].
        problem_type: how to read them.
        labels: class names, C of them; where there are none, classes go by their numbers.
    """
    kind = reading(probs, problem_type)
    if kind == "regression":
        return ["value " + ", ".join(f"{value:.4g}" for value in row) for row in probs.tolist()]
    if kind == "multi_label_classification":
        sets = [[index for index, p in enumerate(row) if p >= LABEL_CUT] for row in probs.tolist()]
        return [", ".join(_name(index, labels) for index in chosen) or "no label" for chosen in sets]
    return [_name(index, labels) for index in probs.argmax(-1).tolist()]


def _name(index: int, labels: Sequence[str]) -> str:
    return f"“{labels[index]}”" if labels else f"class {index}"


def _binary(probs: Array) -> Array:
    """Return the negative entropy in nats of each label's yes or no, shaped as `probs`."""
    return ops.xlogx(probs) + ops.xlogx(1 - probs)
