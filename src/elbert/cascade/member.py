"""One model of a cascade: asked with its own exits, and heard in the chain's order of classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elbert.classifier import Classifier
from elbert.data import Text
from elbert.errors import UsageError


@dataclass(frozen=True, slots=True)
class Said:
    """What one model says of n texts.

    Attributes:
        logits: [n, C], in the chain's order of classes.
        probs: likewise.
        layers: [n] that ran.
        lengths: [n] tokens.
        truncated: [n] whether a text was cut.
    """

    logits: NDArray[np.float32]
    probs: NDArray[np.float32]
    layers: NDArray[np.int64]
    lengths: NDArray[np.int64]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Member:
    """A model in its place.

    Attributes:
        model: with its exits.
        order: where each class of the chain stands among the model's own.
        costs: [M + 1] what a text costs that ran so many of its layers, in layers of the last model: a layer counts by
            the elements of its matrices, which are what a token is multiplied with.
    """

    model: Classifier
    order: tuple[int, ...]
    costs: NDArray[np.float64]

    @classmethod
    def of(cls, model: Classifier, last: Classifier) -> Member:
        """Return a model of a chain that ends in `last`, whose order of classes is the chain's.

        Raises:
            UsageError: they answer with other classes.
        """
        own, wanted = model.labels, last.labels
        if own.problem_type != wanted.problem_type or sorted(own.names) != sorted(wanted.names):
            kinds = [
                f"{each.name} ({each.problem_type}: {', '.join(each.labels.names[:5])}…)" for each in (model, last)
            ]
            raise UsageError(
                f"models of a cascade answer with the same classes; given: {' and '.join(kinds)}: name them alike in "
                "id2label of config.json"
            )
        order = [own.names.index(name) for name in wanted.names] or range(wanted.num_labels)  # values have no names
        costs = np.cumsum([0, *_elements(model)]) / np.mean(_elements(last))
        return cls(model, tuple(order), costs)

    def ask(self, texts: list[Text], batch_size: int, on_texts: Callable[[int], object] | None = None) -> Said:
        """Let the model answer texts.

        Args:
            texts: strings or pairs.
            batch_size: texts in flight together.
            on_texts: called with a count of texts whenever so many more are answered.
        """
        model, count = self.model, len(texts)
        truncated: dict[int, bool] = {}
        arrived = list(model.arrivals(texts, truncated))
        lengths, layers = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for arrival in arrived:
            lengths[arrival.index] = len(arrival.ids)
        logits = np.zeros((count, len(self.order)), np.float32)
        probs = np.zeros_like(logits)
        for group in model.engine.run(arrived, model.policy, batch_size=batch_size):
            at = group.index.numpy()
            logits[at], probs[at] = group.logits.numpy()[:, self.order], group.probs.numpy()[:, self.order]
            layers[at] = group.exit_layer.numpy()
            if on_texts is not None:
                on_texts(len(at))
        return Said(logits, probs, layers, lengths, np.array([truncated[row] for row in range(count)], bool))


def _elements(model: Classifier) -> list[int]:
    """Return how many elements the matrices have that a token meets between one exit and the next, [M]."""
    return [
        sum(matrix.weight.numel() for layer in step for matrix in (layer.qkv, layer.out, layer.up, layer.down))
        for step in model.engine.weights.layers
    ]
