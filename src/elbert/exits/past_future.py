"""GPFEE: a classifier over the states so far and a guess of those to come. Remembers the sum of the states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array, namespace, own_products, products, sigmoid
from elbert.exits.base import Found, State, Sweep
from elbert.exits.fitting import Doubles, fit_linear
from elbert.exits.grids import ENTROPY_GRID
from elbert.exits.learned import Learned
from elbert.exits.parameters import number
from elbert.exits.second import opinion, slope, teaches
from elbert.results import ExitOutput
from elbert.tasks import Task, reading

# A guess is a tanh: states at its ends are fitted as if they lay a hair within.
_WITHIN = 0.999


@dataclass(frozen=True)
class PastFuture(Learned):
    """Leave at the first layer i where H(q_i) < threshold, and exit i says the class that q_i says.

    Rule: q_i = softmax(2λ ⊙ A P_i + (2 − 2λ) ⊙ A F_i + b), P_i = Σ_{k≤i} c_k / M the pooled states so far, F_i =
    (M − i) / M · tanh(W_i c_i) a guess of those to come, λ = σ(G tanh(mean_{k≤i} c_k)); H the normalised entropy. So
    the early answer is q's. For multi-label all labels have to be said; for regression the rule never fires. Use it
    where a text's early states say where it is going.

    The paper guesses every later state by a map of its own and has a matrix A_k a layer; here an exit guesses the mean
    of the later ones by one map, A is shared, and exits answer for themselves (our reading). Fitted on recorded states:
    the maps by least squares, then A and b to the least mean loss, with λ = ½; the scheme `past_future` trains all of
    them along with the model.

    Source: Liao et al., "A Global Past-Future Early Exit Method", NAACL 2021.
    """

    name: ClassVar[str] = "past_future"
    summary: ClassVar[str] = (
        "leave when a classifier over past and guessed later states is sure, and the exit says its class (GPFEE)"
    )
    citation: ClassVar[str] = (
        "Liao et al., A Global Past-Future Early Exit Method for Accelerating Inference of Pre-trained Language "
        "Models, NAACL 2021"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})
    axes: ClassVar[Mapping[str, int]] = {"ahead": 3, "weight": 2, "bias": 1, "gate": 2}
    sweep: ClassVar[Sweep] = {"threshold": ENTROPY_GRID}

    threshold: float = number(0.1, "leave when the normalised entropy is below this", high=1.0)

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Fit the maps, then the classifier; values teach nothing."""
        pooled: Array = said.pooled
        _, layers, width = pooled.shape
        task, classes = reading(said), said.probs.shape[-1]
        gate = np.zeros((classes, width))
        if not teaches(said):
            return {
                "ahead": np.zeros((layers - 1, width, width)),
                "weight": gate,
                "bias": np.zeros(classes),
                "gate": gate,
            }
        states = pooled.astype(np.float64)
        ahead = [_map(states[:, exit], states[:, exit + 1 :].mean(1)) for exit in range(layers - 1)]
        seen = states.cumsum(1)
        for exit, matrix in enumerate(ahead):
            seen[:, exit] += (layers - 1 - exit) * np.tanh(states[:, exit] @ matrix.T)
        weight, bias = _fit(seen / layers, targets, classes, task)
        return {"ahead": np.reshape(ahead, (layers - 1, width, width)), "weight": weight, "bias": bias, "gate": gate}

    def start(self, rows: int, num_labels: int) -> State:
        """Return `past` [rows, H], the sum of the states so far."""
        super().start(rows, num_labels)
        return {"past": np.zeros((rows, self.weights["weight"].shape[-1]), np.float32)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Add the state, guess those to come, and compare the classifier's entropy with the threshold."""
        pooled: Array = output.pooled
        ahead, weight, bias, gate = (self.weights.like(name, pooled) for name in self.axes)
        xp, layers = namespace(pooled), len(ahead) + 1
        past, run = state["past"] + pooled, xp.asarray(layer, dtype=pooled.dtype)[:, None]
        logits = products(past, weight) / layers
        if layers > 1:
            guess = xp.tanh(own_products(pooled, ahead, (layer - 1).clip(max=layers - 2)))
            future = products(guess, weight) * ((layers - run).clip(min=0) / layers)
            balance = sigmoid(products(xp.tanh(past / run), gate))
            logits = 2 * balance * logits + (2 - 2 * balance) * future
        probs, agrees = opinion(logits + bias, output)
        entropy = reading(output).normalised_entropy(probs)
        return {"fired": (entropy < self.threshold) & agrees, "entropy_of_the_guess": entropy}, {"past": past}


def _map(states: Array, later: Array) -> Array:
    """Return the map W [H, H] with tanh(W c) nearest to what comes later, by ridge regression before the tanh."""
    wanted = np.arctanh(later.clip(-_WITHIN, _WITHIN))
    # Worth as much as one text with states of size 1: a few texts in many dimensions aren't learned by heart.
    square = states.T @ states + np.eye(states.shape[1])
    return np.linalg.solve(square, states.T @ wanted).T


def _fit(features: Array, targets: NDArray[Any], classes: int, task: Task) -> tuple[Array, Array]:
    """Return weight [C, H] and bias [C] over features [N, M, H] with the least loss, meaned over all layers."""
    texts, layers, width = features.shape

    def loss(logits: Doubles) -> tuple[float, Doubles]:
        return slope(logits.reshape(texts, layers, classes), targets, task)

    return fit_linear(features.reshape(-1, width), loss, texts, np.zeros(classes))
