"""What learned policies share in learning: how wrong every exit was, and what is fitted to say so or to leave by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.lazy import from_extra
from elbert.results import ExitOutput
from elbert.tasks import Task, reading

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]

_STEPS = 200


def wrongness(said: ExitOutput, targets: NDArray[Any]) -> NDArray[np.float32]:
    """Return how wrong every exit is about every text, [N, M] in [0, 1].

    For single label and multi-label (the whole set) 0 or 1; for regression |tanh(ŷ − y)|, the greatest of a text.

    Args:
        said: a recording, arrays [N, M, …].
        targets: [N] or [N, C].
    """
    return np.asarray(reading(said).wrongness(said.probs, targets), np.float32)


def losses(said: ExitOutput, targets: NDArray[Any]) -> Doubles:
    """Return the loss of every exit on every text, [N, M]: cross-entropy, its binary mean, or the mean squared error.

    Args:
        said: a recording, arrays [N, M, …].
        targets: [N] or [N, C].
    """
    import torch  # here: rules need none

    logits, wanted = torch.from_numpy(said.logits).double(), torch.from_numpy(np.asarray(targets))
    return np.asarray(reading(said).exit_losses(logits, wanted).numpy())


def leaving(scores: Doubles, costs: Doubles, prior: Doubles, pull: float) -> tuple[float, Doubles]:
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


def descend(objective: Callable[[Doubles], tuple[float, Doubles]], begin: Floats) -> Floats:
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


def temperature(logits: Floats, targets: NDArray[Any], task: Task) -> float:
    """Return the temperature in [0.05, 20] under which the targets are likeliest.

    The bounds keep answers that are all right from being taken for certain.

    Args:
        logits: [N, C], of texts that nothing was fitted on.
        targets: [N] class ids, or [N, C] zeros and ones.
        task: of classes.

    Raises:
        MissingExtraError: scipy is not installed.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    import torch  # here: rules need none

    given, wanted = torch.from_numpy(logits).double()[:, None], torch.from_numpy(targets)

    def cost(log_temperature: float) -> float:
        return float(task.exit_losses(given / math.exp(log_temperature), wanted).mean())

    # The cost has one valley in 1 / temperature, so a bounded search finds its bottom.
    search: dict[str, Any] = {"bounds": (math.log(0.05), math.log(20.0)), "method": "bounded"}
    found = from_extra("calibrate", "scipy.optimize").minimize_scalar(cost, **search, options={"xatol": 1e-4})
    return math.exp(float(found.x))


def scaled(features: Floats) -> tuple[Floats, Floats, Floats]:
    """Return features [n, H] standardised, in fp32, with the mean and the spread [H] that were taken out."""
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + 1e-6
    return ((features - mean) / spread).astype(np.float32), mean, spread


def fit_linear(
    features: Floats, loss: Callable[[Doubles], tuple[float, Doubles]], texts: int, begin: Floats
) -> tuple[Doubles, Doubles]:
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

    def objective(packed: Doubles) -> tuple[float, Doubles]:
        weight, bias = packed[:-outputs].reshape(outputs, width), packed[-outputs:]
        value, slope = loss((inputs @ weight.T.astype(np.float32)).astype(np.float64) + bias)
        back = slope.reshape(-1, outputs)
        by_weight = back.T.astype(np.float32) @ inputs + weight / texts
        return value + float((weight * weight).sum()) / (2 * texts), np.append(by_weight, back.sum(0))

    found = np.asarray(descend(objective, np.append(np.zeros(outputs * width), begin)), np.float64)
    weight = found[:-outputs].reshape(outputs, width) / spread
    return weight, found[-outputs:] - weight @ mean
