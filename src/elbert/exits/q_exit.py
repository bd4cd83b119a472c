"""PALBERT's Q-exit: a learned chance of leaving at each layer, cumulated. Reads pooled states, remembers one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array, copy, products, sigmoid
from elbert.exits.base import Found, State, Sweep
from elbert.exits.fitting import Doubles, fit_linear, leaving, losses
from elbert.exits.learned import Learned
from elbert.exits.parameters import number
from elbert.results import ExitOutput

_GRID = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 0.99, 0.999)

# The paper's prior of the exit layer and its weight in the loss.
PRIOR, PULL = 0.1, 0.5


def geometric(layers: int) -> NDArray[np.float64]:
    """Return the prior of the exit layer, [M]: geometric with `PRIOR`, the last layer takes what is left."""
    shares = np.asarray(PRIOR * (1 - PRIOR) ** np.arange(layers), np.float64)
    shares[-1] = 1 - shares[:-1].sum()
    return shares


@dataclass(frozen=True)
class QExit(Learned):
    """Leave at the first layer i where Σ_{k≤i} P(k) > threshold, P(k) = λ_k Π_{j<k} (1 − λ_j).

    Rule: λ_i = σ(w · [c_i ; c_{i-1}] + b) is the chance to leave at i, c_i the pooled state and c_0 = 0; w and b are
    shared by all layers. The cumulated chance is 1 − Π_{k≤i} (1 − λ_k), so it never falls. Use it where a layer's
    state should be judged beside the one before.

    Fitted on recorded states to the least Σ_i P(i) L_i + ½ KL(prior ‖ P), L_i the loss of exit i, the prior geometric
    with 0.1. One linear unit is an option of the authors' code (the paper has three layers of 2H). The scheme `ponder`
    trains it along with the model, as the paper does. At the last layer λ is 1 (our reading: their P need not sum to
    1).

    Source: Balagansky and Gavrilov, "PALBERT", NeurIPS 2022.
    """

    name: ClassVar[str] = "q_exit"
    summary: ClassVar[str] = "leave when the cumulated learned chance of leaving is above `threshold` (PALBERT)"
    citation: ClassVar[str] = (
        "Balagansky and Gavrilov, PALBERT: Teaching ALBERT to Ponder, NeurIPS 2022, arXiv:2204.03276"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})
    axes: ClassVar[Mapping[str, int]] = {"weight": 1, "bias": 0}
    sweep: ClassVar[Sweep] = {"threshold": _GRID}

    threshold: float = number(0.5, "leave when it is more likely than this to have left by now", high=1.0)

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Fit the unit to the exits before the last."""
        pooled: Array = said.pooled
        texts, layers, width = pooled.shape
        before = np.concatenate([np.zeros((texts, 1, width), np.float32), pooled[:, :-1]], 1)
        features = np.concatenate([pooled, before], -1)[:, : layers - 1].reshape(-1, 2 * width)
        if not len(features):  # one layer: there is nothing to leave early from
            return {"weight": np.zeros(2 * width), "bias": 0.0}
        costs, prior = losses(said, targets), geometric(layers)

        def loss(scores: Doubles) -> tuple[float, Doubles]:
            return leaving(scores.reshape(texts, layers - 1), costs, prior, PULL)

        weight, bias = fit_linear(features, loss, texts, np.log([PRIOR / (1 - PRIOR)]))
        return {"weight": weight[0], "bias": bias[0]}

    def start(self, rows: int, num_labels: int) -> State:
        """Return `stayed` [rows], the chance to be there still, and `last` [rows, H], the state before."""
        super().start(rows, num_labels)
        width = len(self.weights["weight"]) // 2
        return {"stayed": np.ones(rows, np.float32), "last": np.zeros((rows, width), np.float32)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Cumulate the chance and compare it with the threshold."""
        pooled: Array = output.pooled
        del layer
        weight, bias = (self.weights.like(name, pooled) for name in ("weight", "bias"))
        width = len(weight) // 2
        both = products(pooled, weight[None, :width]) + products(state["last"], weight[None, width:])
        stayed = state["stayed"] * (1 - sigmoid(both[:, 0] + bias))
        gone = 1 - stayed
        return {"fired": gone > self.threshold, "chance_to_have_left": gone}, {"stayed": stayed, "last": copy(pooled)}
