"""BERxiT's error head: a learned unit that says how likely an exit is wrong. Reads pooled states; keeps no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array, products, sigmoid
from elbert.exits.base import Found, State, Sweep
from elbert.exits.fitting import Doubles, Floats, fit_linear, wrongness
from elbert.exits.grids import ENTROPY_GRID
from elbert.exits.learned import Learned
from elbert.exits.parameters import number
from elbert.results import ExitOutput


@dataclass(frozen=True)
class Certainty(Learned):
    """Leave at the first layer i where u_i < threshold.

    Rule: u_i = σ(w · c_i + b), c_i the pooled state of exit i; w and b are shared by all layers. u_i estimates how
    wrong exit i is: 1 where its label is not the right one (multi-label: its set), |tanh(ŷ − y)| for regression, so
    the one rule of sureness that has something to say of values too. Use it where probabilities are overconfident.

    Fitted after training, on recorded states, to the least Σ (u_i − t_i)²; the paper trains it along with the model,
    where it moves the encoder too.

    Source: Xin et al., "BERxiT", EACL 2021 (their LTE).
    """

    name: ClassVar[str] = "certainty"
    summary: ClassVar[str] = "leave when a learned unit says the exit is wrong less likely than `threshold` (BERxiT)"
    citation: ClassVar[str] = (
        "Xin et al., BERxiT: Early Exiting for BERT with Better Fine-Tuning and Extension to Regression, EACL 2021"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})
    axes: ClassVar[Mapping[str, int]] = {"weight": 1, "bias": 0}
    sweep: ClassVar[Sweep] = {"threshold": ENTROPY_GRID}

    threshold: float = number(0.005, "leave when the exit is wrong less likely than this", high=1.0)

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Fit the unit to the exits before the last, where a text can still leave early."""
        early = slice(0, max(said.probs.shape[1] - 1, 1))
        pooled: Array = said.pooled
        states, wrong = pooled[:, early], wrongness(said, targets)[:, early]
        weight, bias = fit_unit(states.reshape(-1, pooled.shape[-1]), wrong.reshape(-1), len(pooled))
        return {"weight": weight, "bias": bias}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the estimate with the threshold."""
        del layer
        weight, bias = (self.weights.like(name, output.pooled) for name in ("weight", "bias"))
        error = sigmoid(products(output.pooled, weight[None])[:, 0] + bias)
        return {"fired": error < self.threshold, "estimated_error": error}, state


def fit_unit(features: Floats, targets: Floats, texts: int) -> tuple[Floats, float]:
    """Return (weight [H], bias) of u = σ(weight · features + bias) with the least mean of (u − t)².

    Args:
        features: [n, H].
        targets: t, [n] in [0, 1].
        texts: that the n rows come from.

    Raises:
        MissingExtraError: scipy is not installed.
    """

    def loss(scores: Doubles) -> tuple[float, Doubles]:
        u = sigmoid(scores[:, 0])
        return float(((u - targets) ** 2).mean()), 2 * (u - targets) * u * (1 - u) / len(u)

    rate = np.clip(targets.mean(), 1e-3, 1 - 1e-3)
    weight, bias = fit_linear(features, loss, texts, np.log(rate / (1 - rate))[None])
    return weight[0], float(bias[0])
