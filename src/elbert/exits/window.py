"""ELBERT's three window criteria: is a text steady over its last N outputs?

Each takes window [rows, N, C] fp32, oldest output first, the problem type and the tolerance, and returns [rows] bool.
Outputs not yet seen are NaN; a window that holds one is never steady.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from elbert.results import LABEL_CUT, ProblemType


def monotone(window: Tensor, problem_type: ProblemType, tolerance: float) -> Tensor:
    """Return where the first and last label are equal and its probability never decreases in between."""
    del tolerance
    before, after, now = window[:, :-1], window[:, 1:], window[:, -1]
    if problem_type == "regression":
        return torch.zeros(len(window), dtype=torch.bool, device=window.device)
    rises = (after >= before).all(1)
    if problem_type == "multi_label_classification":
        decided = now >= LABEL_CUT
        away = torch.where(decided, rises, (after <= before).all(1))
        return (away & (decided == (window[:, 0] >= LABEL_CUT))).all(-1)
    label = now.argmax(-1, keepdim=True)
    return rises.gather(1, label).squeeze(1) & (label.squeeze(1) == window[:, 0].argmax(-1))


def within_range(window: Tensor, problem_type: ProblemType, tolerance: float) -> Tensor:
    """Return where the label stays the same and its probability (or the value) varies by at most `tolerance`."""
    watched = window.amax(-1, keepdim=True) if problem_type == "single_label_classification" else window
    lowest, highest = watched.aminmax(dim=1)
    narrow = (highest - lowest <= tolerance).all(-1)
    return narrow if problem_type == "regression" else narrow & agreement(window, problem_type, tolerance)


def agreement(window: Tensor, problem_type: ProblemType, tolerance: float) -> Tensor:
    """Return where the label stays the same (regression: each value is within `tolerance` of the one before)."""
    if problem_type == "regression":
        return ((window[:, 1:] - window[:, :-1]).abs() <= tolerance).all(-1).all(-1)
    full = ~window[:, 0, 0].isnan()
    if problem_type == "multi_label_classification":
        sets = window >= LABEL_CUT
        return full & (sets == sets[:, -1:]).all(-1).all(-1)
    labels = window.argmax(-1)
    return full & (labels == labels[:, -1:]).all(-1)


CRITERIA: dict[str, Callable[[Tensor, ProblemType, float], Tensor]] = {
    "monotone": monotone,
    "range": within_range,
    "agreement": agreement,
}
