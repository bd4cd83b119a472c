"""DACT-BERT: answers are mixed as layers come, and a text leaves once no later layer can change the winner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array, amax, constants, namespace, products, sigmoid
from elbert.exits.base import Found, State, Sweep, one_label
from elbert.exits.fitting import Doubles, fit_linear
from elbert.exits.learned import Learned
from elbert.exits.parameters import number
from elbert.results import ExitOutput

# Slack 1 is what every winner has.
_GRID = (1.0, 0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.0)

# What a layer's weight costs while the unit is fitted: the paper's τ.
PRICE = 5e-4


@dataclass(frozen=True)
class Halting(Learned):
    """Leave at the first layer i where no later layer can change the winner of the mixed answers, and exit i says it.

    Rule: h_i = σ(w · c_i + b) of the pooled state c_i, p_0 = 1, p_i = p_{i-1} h_i, a_i = p_{i-1} y_i + (1 − p_{i-1})
    a_{i-1} with y_i the exit's probabilities. Since p never grows, the winner stands if a_top (1 − p_i)^d ≥
    1 − (1 − a_2) (1 − p_i)^d, d the layers left and a_2 the second of a_i. So the early answer *is* the full one: with
    `slack` 0 the class of a_M. `slack` buys speed for that. For single label only: elsewhere the rule never fires.

    The bound is tighter than the paper's, and as exact. Exits answer for themselves here, so a text stays where its own
    exit doesn't say the winner (our reading). Fitted on recorded outputs to the least −log a_M(y) + 5e-4 Σ_i p_i; the
    scheme `act` trains the unit along with the model.

    Source: Eyzaguirre et al., "DACT-BERT", 2021.
    """

    name: ClassVar[str] = "halting"
    summary: ClassVar[str] = "leave when no later layer can change the winner of the mixed answers (DACT-BERT)"
    citation: ClassVar[str] = (
        "Eyzaguirre et al., DACT-BERT: Differentiable Adaptive Computation Time for an Efficient BERT Inference, 2021, "
        "arXiv:2109.11745"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})
    axes: ClassVar[Mapping[str, int]] = {"weight": 1, "bias": 0, "layers": 0}
    sweep: ClassVar[Sweep] = {"slack": _GRID}

    slack: float = number(0.0, "how far the winner may be from safe, 0 for the answer of all layers", high=1.0)

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Fit the unit; it stays 0, and h ½, where a text has not one label."""
        pooled: Array = said.pooled
        texts, layers, width = pooled.shape
        if not one_label(said):
            return {"weight": np.zeros(width), "bias": 0.0, "layers": float(layers)}
        right = np.take_along_axis(said.probs, targets.astype(np.int64)[:, None, None], -1)[..., 0].astype(np.float64)

        def loss(scores: Doubles) -> tuple[float, Doubles]:
            return _mixed(scores.reshape(texts, layers), right)

        weight, bias = fit_linear(pooled.reshape(-1, width), loss, texts, np.zeros(1))
        return {"weight": weight[0], "bias": bias[0], "layers": float(layers)}

    def start(self, rows: int, num_labels: int) -> State:
        """Return `mixed` [rows, C], the answer so far, and `weight` [rows], that of the next exit in it."""
        super().start(rows, num_labels)
        return {"mixed": np.zeros((rows, num_labels), np.float32), "weight": np.ones(rows, np.float32)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Mix the exit's answer in, and ask whether the winner stands."""
        said, share = output.probs, state["weight"]
        xp = namespace(said)
        mixed = share[:, None] * said + (1 - share)[:, None] * state["mixed"]
        weight, bias, layers = (self.weights.like(name, output.pooled) for name in self.axes)
        share = share * sigmoid(products(output.pooled, weight[None])[:, 0] + bias)
        after = {"mixed": mixed, "weight": share}
        if not one_label(output):
            return {"fired": layer < 0, "weight_of_the_rest": share}, after
        numbers = constants(tuple(range(mixed.shape[-1])), mixed)
        winner = mixed.argmax(-1)
        best = amax(mixed, -1)
        second = amax(xp.where(numbers == winner[:, None], 0, mixed), -1)
        kept = (1 - share) ** (layers - xp.asarray(layer, dtype=share.dtype)).clip(min=0)
        margin = best * kept - (1 - (1 - second) * kept)
        stands = (margin >= -self.slack) & (said.argmax(-1) == winner)
        return {"fired": stands, "safe_by": margin}, after


def _mixed(scores: NDArray[np.float64], right: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the mean of −log a_M(y) + PRICE Σ_i p_i, and its derivative by the scores of h, [N, M].

    Args:
        scores: [N, M], what goes into the sigmoid.
        right: [N, M], each exit's probability of the right class.
    """
    texts, layers = scores.shape
    halt = sigmoid(scores)
    share = np.concatenate([np.ones((texts, 1)), halt.cumprod(1)], 1)  # p_0 … p_M
    mixed = np.zeros((texts, layers + 1))
    for layer in range(layers):
        mixed[:, layer + 1] = right[:, layer] * share[:, layer] + mixed[:, layer] * (1 - share[:, layer])
    answer = mixed[:, -1].clip(min=1e-12)
    value = float((-np.log(answer) + PRICE * share[:, 1:].sum(1)).mean())
    back, by_share = -1 / answer, np.zeros_like(share)
    for layer in reversed(range(layers)):
        by_share[:, layer] = back * (right[:, layer] - mixed[:, layer])
        back = back * (1 - share[:, layer])
    by_share[:, 1:] += PRICE
    slope, carried = np.empty_like(scores), np.zeros(texts)
    for layer in reversed(range(layers)):
        carried = carried + by_share[:, layer + 1]
        slope[:, layer] = carried * share[:, layer] * halt[:, layer] * (1 - halt[:, layer])
        carried = carried * halt[:, layer]
    return value, slope / texts
