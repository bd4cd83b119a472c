"""ELBERT's three window criteria: is a text steady over its last N outputs?

Each takes window [rows, N, C] fp32, oldest output first, the problem type and the tolerance, and returns [rows] bool.
Outputs not yet seen are NaN; a window that holds one is never steady.
"""

from __future__ import annotations

from collections.abc import Callable

from elbert.exits import ops
from elbert.exits.ops import Array, namespace
from elbert.results import LABEL_CUT, ProblemType


def monotone(window: Array, problem_type: ProblemType, tolerance: float) -> Array:
    """Return where the first and last label are equal and its probability never decreases in between."""
    del tolerance
    before, after, now = window[:, :-1], window[:, 1:], window[:, -1]
    if problem_type == "regression":
        return namespace(now).isnan(now).any(-1)  # nowhere: a value that creeps in one direction has not settled
    rises = (after >= before).all(1)
    if problem_type == "multi_label_classification":
        decided = now >= LABEL_CUT
        away = namespace(window).where(decided, rises, (after <= before).all(1))
        return (away & (decided == (window[:, 0] >= LABEL_CUT))).all(-1)
    label = now.argmax(-1)
    return ops.pick(rises, label) & (label == window[:, 0].argmax(-1))


def within_range(window: Array, problem_type: ProblemType, tolerance: float) -> Array:
    """Return where the label stays the same and its probability (or the value) varies by at most `tolerance`."""
    watched = ops.amax(window, -1)[..., None] if problem_type == "single_label_classification" else window
    narrow = (ops.amax(watched, 1) - ops.amin(watched, 1) <= tolerance).all(-1)
    return narrow if problem_type == "regression" else narrow & agreement(window, problem_type, tolerance)


def agreement(window: Array, problem_type: ProblemType, tolerance: float) -> Array:
    """Return where the label stays the same (regression: each value is within `tolerance` of the one before)."""
    if problem_type == "regression":
        return (abs(window[:, 1:] - window[:, :-1]) <= tolerance).all(-1).all(-1)
    full = ~namespace(window).isnan(window[:, 0, 0])
    if problem_type == "multi_label_classification":
        sets = window >= LABEL_CUT
        return full & (sets == sets[:, -1:]).all(-1).all(-1)
    labels = window.argmax(-1)
    return full & (labels == labels[:, -1:]).all(-1)


CRITERIA: dict[str, Callable[[Array, ProblemType, float], Array]] = {
    "monotone": monotone,
    "range": within_range,
    "agreement": agreement,
}
