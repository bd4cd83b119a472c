"""What leaving at each exit costs each text: the losses that a promise is about. N texts, M exits, C classes.

Every loss lies in [0, 1]. A policy's loss of a text, minus that text's loss at full depth, is its difference; the mean
difference is what is promised to stay below a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from elbert.errors import DataError, UsageError
from elbert.results import LayerOutputs
from elbert.scoring.curves import answers

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of every text at every exit.

    Attributes:
        by_exit: [N, M] in [0, 1].
        about: what is counted, in words.
        bound: the test with the most power for it: `paired`, `binomial` or `betting`.
    """

    by_exit: Array
    about: str
    bound: str

    def differences(self, exit_layer: NDArray[Any]) -> Array:
        """Return [N]: the loss at these exits minus that at full depth, in [-1, 1].

        Args:
            exit_layer: [N], from 1 to M.
        """
        return np.asarray(self.by_exit[np.arange(len(self.by_exit)), exit_layer - 1] - self.by_exit[:, -1])


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
    texts, layers = outputs.probs.shape[:2]
    if len(wanted) != texts:
        raise DataError(f"{len(wanted)} labels for {texts} texts; give one label a text")
    if not bool(wanted.isfinite().all()):
        raise DataError("a label is NaN or infinite; correct it, or drop the row")
    given = [answers(outputs.probs[:, layer], outputs.problem_type) for layer in range(layers)]
    if outputs.problem_type == "regression":
        columns = [_distance(each.double(), wanted, scale) for each in given]
        return Losses(np.stack(columns, 1), f"distance from the right value / {scale:g}, at most 1", "betting")
    if outputs.problem_type == "multi_label_classification" and metric != "accuracy":
        return Losses(
            np.stack([_one_minus_f1(each.double(), wanted) for each in given], 1), "1 - F1 of a text", "betting"
        )
    about = "wrong label" if outputs.problem_type == "single_label_classification" else "wrong set of labels"
    return Losses(np.stack([_differ(each.double(), wanted) for each in given], 1), about, "paired")


def agreement_losses(outputs: LayerOutputs, scale: float = 1.0) -> Losses:
    """Return the losses against the model's own answer at full depth, for which no labels are needed.

    Args:
        outputs: a full-depth recording.
        scale: range of the values of a regression, > 0.

    Source: Schuster et al., "Consistent Accelerated Inference via Confident Adaptive Transformers", 2104.08803.
    """
    given = [answers(outputs.probs[:, layer], outputs.problem_type).double() for layer in range(outputs.probs.shape[1])]
    if outputs.problem_type == "regression":
        columns = [_distance(each, given[-1], scale) for each in given]
        return Losses(np.stack(columns, 1), f"distance from full depth / {scale:g}, at most 1", "betting")
    return Losses(
        np.stack([_differ(each, given[-1]) for each in given], 1), "another answer than full depth", "binomial"
    )


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


def _differ(given: Tensor, wanted: Tensor) -> Array:
    texts = len(wanted)
    return np.asarray((given.reshape(texts, -1) != wanted.reshape(texts, -1)).any(-1).double().numpy())


def _distance(given: Tensor, wanted: Tensor, scale: float) -> Array:
    texts = len(wanted)
    return np.asarray(
        ((given.reshape(texts, -1) - wanted.reshape(texts, -1)).abs().mean(-1) / scale).clamp(0, 1).numpy()
    )


def _one_minus_f1(given: Tensor, wanted: Tensor) -> Array:
    both, either = (given * wanted).sum(-1), given.sum(-1) + wanted.sum(-1)
    # Nothing to find and nothing found is right.
    return np.asarray(torch.where(either > 0, 1 - 2 * both / either.clamp_min(1), 0.0).numpy())
