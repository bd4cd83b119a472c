"""What learned policies share in learning: how wrong every exit was, and what is fitted to say so or to leave by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.lazy import from_extra
from elbert.results import ExitOutput
from elbert.tasks import reading

Floats = NDArray[np.floating[Any]]

_STEPS = 200


def wrongness(said: ExitOutput, targets: NDArray[Any]) -> NDArray[np.float32]:
    """Return how wrong every exit is about every text, [N, M] in [0, 1].

    For single label and multi-label (the whole set) 0 or 1; for regression |tanh(ŷ − y)|, the greatest of a text.

    Args:
        said: a recording, arrays [N, M, …].
        targets: [N] or [N, C].
    """
    return np.asarray(reading(said).wrongness(said.probs, targets), np.float32)


def losses(said: ExitOutput, targets: NDArray[Any]) -> NDArray[np.float64]:
    """Return the loss of every exit on every text, [N, M]: cross-entropy, its binary mean, or the mean squared error.

    Args:
        said: a recording, arrays [N, M, …].
        targets: [N] or [N, C].
    """
    import torch  # here: rules need none

    logits, wanted = torch.from_numpy(said.logits).double(), torch.from_numpy(np.asarray(targets))
    return np.asarray(reading(said).exit_losses(logits, wanted).numpy())


def leaving(
    scores: NDArray[np.float64], costs: NDArray[np.float64], prior: NDArray[np.float64], pull: float
) -> tuple[float, NDArray[np.float64]]:
    """Return what leaving by chance costs on average, and the derivative of that by the scores, [N, M − 1].

    A text leaves at layer i < M with the chance σ(scores_i) if it is still there, and at M in any case: P(i). The cost
    is Σ_i P(i) costs_i + pull · KL(prior ‖ P).

    Args:
        scores: [N, M − 1].
        costs: [N, M] of leaving there.
        prior: [M] shares that leave there; they sum to 1.
        pull: of the shares to the prior.
    """
    go, stay = -np.logaddexp(0, -scores), -np.logaddexp(0, scores)  # log σ(s), log (1 − σ(s))
    still = np.concatenate([np.zeros((len(scores), 1)), stay.cumsum(1)], 1)
    log_chances = still + np.concatenate([go, np.zeros((len(scores), 1))], 1)
    paid = np.exp(log_chances) * costs
    known = prior > 0
    divergence = (prior[known] * (np.log(prior[known]) - log_chances[:, known])).sum(1)
    value = float((paid.sum(1) + pull * divergence).mean())
    parts = paid - pull * prior
    later = parts[:, ::-1].cumsum(1)[:, ::-1][:, 1:]  # Σ over the layers behind i
    return value, (np.exp(stay) * parts[:, :-1] - np.exp(go) * later) / len(scores)


def descend(objective: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]], begin: Floats) -> Floats:
    """Return where a function has its least value, going down from `begin` by L-BFGS.

    Args:
        objective: returns the value and the gradient.
        begin: packed parameters, [n].

    Raises:
        MissingExtraError: scipy is not installed.
    """
    minimize = from_extra("calibrate", "scipy.optimize").minimize
    found: Floats = minimize(objective, begin, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    return found


def scaled(features: Floats) -> tuple[Floats, Floats, Floats]:
    """Return features [n, H] standardised, in fp32, with the mean and the spread [H] that were taken out."""
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + 1e-6
    return ((features - mean) / spread).astype(np.float32), mean, spread


def fit_linear(
    features: Floats, loss: Callable[[Floats], tuple[float, Floats]], texts: int, begin: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (weight [K, H], bias [K]) of the scores features · weightᵀ + bias with the least loss.

    Features are standardised meanwhile, and ‖weight‖² / (2 · texts) is added to the loss: the prior of a weight of
    size 1, worth as much as one text, so that a few texts in many dimensions aren't learned by heart.

    Args:
        features: [n, H].
        loss: given the scores [n, K], their mean loss and its derivative by them.
        texts: that the n rows come from.
        begin: [K] the bias that the search begins with.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    inputs, mean, spread = scaled(features)
    outputs, width = len(begin), features.shape[1]

    def objective(packed: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = packed[:-outputs].reshape(outputs, width), packed[-outputs:]
        value, slope = loss((inputs @ weight.T.astype(np.float32)).astype(np.float64) + bias)
        back = slope.reshape(-1, outputs)
        by_weight = back.T.astype(np.float32) @ inputs + weight / texts
        return value + float((weight * weight).sum()) / (2 * texts), np.append(by_weight, back.sum(0))

    found = np.asarray(descend(objective, np.append(np.zeros(outputs * width), begin)), np.float64)
    weight = found[:-outputs].reshape(outputs, width) / spread
    return weight, found[-outputs:] - weight @ mean
