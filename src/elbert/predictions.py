"""From what the engine lets go to what a user reads: class names and scores, or values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from elbert.data import Labels
from elbert.engine.requests import Departures
from elbert.results import LABEL_CUT, Prediction, ProblemType


def predictions(
    group: Departures, labels: Labels, problem_type: ProblemType, num_layers: int, truncated: dict[int, bool]
) -> Iterator[tuple[int, Prediction]]:
    """Turn one step's departures into predictions, each with its place in the input.

    Args:
        group: texts that left together.
        labels: the label space.
        problem_type: how to read the logits.
        num_layers: layers of the encoder, M.
        truncated: by the place of the text, was it cut; those answered here are taken out.
    """
    columns = (group.index.tolist(), group.exit_layer.tolist())
    answers: Iterable[tuple[Any, Any]]
    if problem_type == "single_label_classification":
        scores, classes = group.probs.max(-1)
        answers = zip([labels.names[i] for i in classes.tolist()], scores.tolist(), strict=True)
    elif problem_type == "multi_label_classification":
        answers = (_decided(labels, row) for row in group.probs.tolist())
    else:
        values = group.logits.tolist()
        answers = ((row[0] if len(row) == 1 else tuple(row), None) for row in values)
    for index, layer, (label, score) in zip(*columns, answers, strict=True):
        yield index, Prediction(label, score, layer, num_layers, truncated.pop(index))


def _decided(labels: Labels, probs: list[float]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the classes of probability `LABEL_CUT` and more, with it."""
    chosen = [(name, p) for name, p in zip(labels.names, probs, strict=True) if p >= LABEL_CUT]
    return tuple(name for name, _ in chosen), tuple(p for _, p in chosen)
