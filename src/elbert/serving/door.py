"""Layer 0 at the door of a server: whoever it is sure of has an answer at once, and waits for no worker."""

from __future__ import annotations

import time
from collections.abc import Sequence

from elbert.classifier import Classifier
from elbert.engine.layer_zero import LayerZero
from elbert.engine.requests import Arrival
from elbert.serving.rows import Answer


class Door:
    """Asks a model's layer 0, where it has one. Lives in the event loop alone.

    Args:
        classifier: the model.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._zero = LayerZero(classifier.engine.words, classifier.policy, classifier.problem_type)

    def answers(self, arrivals: Sequence[Arrival]) -> dict[int, Answer]:
        """Return the answers that layer 0 is sure of, by the index of their arrivals."""
        begun = time.perf_counter()
        for arrival in arrivals:
            self._zero.add(arrival)
        self._zero.sift()
        if not self._zero.leaving:
            return {}
        columns = [column.tolist() for column in self._zero.answers()]
        self._zero.clear()
        took = time.perf_counter() - begun
        rows = zip(*columns, strict=True)
        return {index: Answer(logits, probs, 0, "rule", 0.0, took) for index, logits, probs in rows}
