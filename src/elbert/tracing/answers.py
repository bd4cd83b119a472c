"""What a row of probabilities says, in words, and whether that is right. Single label, multi-label and regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from elbert.results import LABEL_CUT, ProblemType

NOTHING = "no label"


def answer(probs: Sequence[float], labels: Sequence[str], problem_type: ProblemType) -> str:
    """Return one exit's answer in words.

    Args:
        probs: [C] softmax, sigmoid or raw values.
        labels: class names; empty for regression.
        problem_type: how to read them.
    """
    if problem_type == "regression":
        return ", ".join(f"{value:.2f}" for value in probs)
    if problem_type == "multi_label_classification":
        return " + ".join(name for name, p in zip(labels, probs, strict=True) if p >= LABEL_CUT) or NOTHING
    return labels[max(range(len(probs)), key=probs.__getitem__)]


def score(probs: Sequence[float], problem_type: ProblemType) -> float | None:
    """Return how probable that answer is; for multi-label the least sure label's max(p, 1 - p); None for regression."""
    if problem_type == "regression":
        return None
    return max(probs) if problem_type == "single_label_classification" else min(max(p, 1 - p) for p in probs)


def answers_by_layer(probs: Tensor, labels: Sequence[str], problem_type: ProblemType) -> list[str]:
    """Return the answer of every exit in words, for probs [M, C]."""
    return [answer(row, labels, problem_type) for row in probs.tolist()]


def gold_words(gold: Any, labels: Sequence[str], problem_type: ProblemType) -> str:
    """Return the right answer, encoded as in a `TextDataset`, in the words of `answer`."""
    if problem_type == "single_label_classification":
        return labels[int(gold)]
    return answer(gold if isinstance(gold, (list, tuple)) else [gold], labels, problem_type)
