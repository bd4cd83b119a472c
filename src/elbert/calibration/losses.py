"""What leaving at each exit costs each text: the losses that a promise is about. N texts, M exits, C classes.

Every loss lies in [0, 1]. A policy's loss of a text, minus that text's loss at full depth, is its difference; the mean
difference is what is promised to stay below a limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from elbert.errors import DataError, UsageError
from elbert.results import LayerOutputs
from elbert.tasks import task_of

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of every text at every exit.

    Attributes:
        by_exit: [N, M] in [0, 1].
        by_words: [N] in [0, 1], of layer 0; None where there is none.
        whole: [N] in [0, 1], at full depth with all tokens, where rows dropped some; None for the last of `by_exit`.
        about: what is counted, in words.
        bound: the test with the most power for it: `paired`, `binomial` or `betting`.
    """

    by_exit: Array
    about: str
    bound: str
    by_words: Array | None = None
    whole: Array | None = None

    def against(self, whole: Losses) -> Losses:
        """Return the losses with differences from those of whole rows, `whole`, at full depth."""
        return replace(self, whole=whole.by_exit[:, -1])

    def at(self, exit_layer: NDArray[Any]) -> Array:
        """Return [N], the loss of each text where it leaves.

        Args:
            exit_layer: [N], from 1 to M, or 0 for layer 0.
        """
        losses = self.by_exit[np.arange(len(self.by_exit)), exit_layer - 1]
        return np.asarray(losses if self.by_words is None else np.where(exit_layer == 0, self.by_words, losses))

    def differences(self, exit_layer: NDArray[Any]) -> Array:
        """Return [N]: the loss at these exits minus that at full depth, in [-1, 1].

        Args:
            exit_layer: as in `at`.
        """
        return self.at(exit_layer) - (self.by_exit[:, -1] if self.whole is None else self.whole)


def label_losses(outputs: LayerOutputs, labels: ArrayLike, metric: str, scale: float = 1.0) -> Losses:
    """Return the losses against the right labels.

    A wrong label (or set of labels, where the metric is accuracy) counts 1; with another metric a set of labels counts
    one minus its own F1; a value counts its distance from the right one over `scale`, at most 1.

    Args:
        outputs: a full-depth recording.
        labels: [N] class indices, [N, C] zeros and ones, or [N] or [N, C] values.
        metric: full name of the metric.
        scale: range of the values, > 0.

    Raises:
        DataError: not one label a text, or a label is NaN.
    """
    wanted = torch.as_tensor(np.asarray(labels, dtype=np.float64))
    texts = len(outputs.probs)
    if len(wanted) != texts:
        raise DataError(f"{len(wanted)} labels for {texts} texts; give one label a text")
    if not bool(wanted.isfinite().all()):
        raise DataError("a label is NaN or infinite; correct it, or drop the row")
    values, by_words, about, binary = _by_exit(outputs, wanted, metric, scale)
    return Losses(values, about, "paired" if binary else "betting", by_words)


def agreement_losses(outputs: LayerOutputs, scale: float = 1.0, *, whole: LayerOutputs | None = None) -> Losses:
    """Return the losses against the model's own answer at full depth, for which no labels are needed.

    Args:
        outputs: a full-depth recording.
        scale: range of the values of a regression, > 0.
        whole: a recording of the same texts with all tokens, where this one is of rows that dropped some.

    Source: Schuster et al., "Consistent Accelerated Inference via Confident Adaptive Transformers", 2104.08803.
    """
    last = task_of(outputs.problem_type).decisions((whole or outputs).probs[:, -1]).double()
    values, by_words, _, binary = _by_exit(outputs, last, "accuracy", scale)
    if binary:
        return Losses(values, "another answer than full depth", "binomial", by_words)
    return Losses(values, f"distance from full depth / {scale:g}, at most 1", "betting")


def value_range(values: ArrayLike) -> float:
    """Return greatest minus least value, for `scale`.

    Raises:
        UsageError: all are the same, so there is no scale.
    """
    given = np.asarray(values, dtype=np.float64)
    width = float(given.max() - given.min()) if given.size else 0.0
    if not width > 0:
        raise UsageError(f"all {len(given)} values looked at are the same, so there is no scale; give more texts")
    return width


def _by_exit(outputs: LayerOutputs, wanted: Tensor, metric: str, scale: float) -> tuple[Array, Array | None, str, bool]:
    """Return what every exit's answer to every text costs, [N, M], and layer 0's; in words; and if only 0 or 1."""
    task = task_of(outputs.problem_type)

    def cost(probs: Tensor) -> tuple[Array, str, bool]:
        decided = task.decisions(probs).double()
        values, about, binary = task.mistakes(decided, wanted.view_as(decided), metric, scale)
        return values.numpy(), about, binary

    columns = [cost(outputs.probs[:, layer]) for layer in range(outputs.probs.shape[1])]
    by_words = None if outputs.words is None else cost(outputs.words)[0]
    return np.stack([values for values, _, _ in columns], 1), by_words, *columns[0][1:]
