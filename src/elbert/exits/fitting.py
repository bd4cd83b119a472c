"""What learned policies share in learning: which exits were wrong, and a linear unit fitted to say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.errors import MissingExtraError
from elbert.results import ExitOutput
from elbert.tasks import reading

Floats = NDArray[np.floating[Any]]

# Given outputs u and targets t, [n] each in [0, 1]: the mean loss, and its derivative by what goes into the sigmoid.
Loss = Callable[[Floats, Floats], tuple[float, Floats]]

_STEPS = 200


def wrongness(said: ExitOutput, targets: NDArray[Any]) -> NDArray[np.float32]:
    """Return how wrong every exit is about every text, [N, M] in [0, 1].

    For single label and multi-label (the whole set) 0 or 1; for regression |tanh(ŷ − y)|, the greatest of a text.

    Args:
        said: a recording, arrays [N, M, …].
        targets: [N] or [N, C].
    """
    return np.asarray(reading(said).wrongness(said.probs, targets), np.float32)


def squared_error(u: Floats, t: Floats) -> tuple[float, Floats]:
    """Return the mean of (u − t)², see `Loss`."""
    return float(((u - t) ** 2).mean()), 2 * (u - t) * u * (1 - u) / len(u)


def fit_unit(features: Floats, targets: Floats, texts: int, loss: Loss = squared_error) -> tuple[Floats, float]:
    """Return (weight [H], bias) of the unit sigmoid(weight · features + bias) with the least loss.

    Features are standardised meanwhile, and ‖weight‖² / (2 · texts) is added to the loss: the prior of a weight of
    size 1, worth as much as one text, so that a few texts in many dimensions aren't learned by heart.

    Args:
        features: [n, H].
        targets: [n] in [0, 1].
        texts: that the n rows come from.
        loss: what is minimised.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise MissingExtraError("scipy", "calibrate", error) from None
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + 1e-6
    scaled = ((features - mean) / spread).astype(np.float32)

    def objective(packed: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = packed[:-1], packed[-1]
        u = (np.tanh((scaled @ weight.astype(np.float32) + bias) / 2) + 1) / 2
        value, slope = loss(u, targets)
        gradient = np.append(scaled.T @ slope.astype(np.float32) + weight / texts, slope.sum())
        return value + float(weight @ weight) / (2 * texts), gradient

    begin = np.zeros(features.shape[1] + 1)
    rate = np.clip(targets.mean(), 1e-3, 1 - 1e-3)
    begin[-1] = np.log(rate / (1 - rate))
    found = minimize(objective, begin, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    weight = found[:-1] / spread
    return weight, float(found[-1] - weight @ mean)
