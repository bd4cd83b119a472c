"""Right Tool: a classifier over a learned mix of all layers so far, with a temperature an exit. Remembers the mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array, products
from elbert.exits.base import Found, State, Sweep
from elbert.exits.fitting import descend, scaled, temperature
from elbert.exits.grids import CONFIDENCE_GRID
from elbert.exits.learned import Learned
from elbert.exits.parameters import number
from elbert.exits.second import opinion, slope, teaches
from elbert.results import ExitOutput
from elbert.tasks import Task, reading


@dataclass(frozen=True)
class RightTool(Learned):
    """Leave at the first layer i where max_j q_i(j) > threshold, and exit i says the class that q_i says.

    Rule: q_i = softmax((A m_i + b) / T_i), m_i = Σ_{k≤i} s_k c_k / Σ_{k≤i} s_k the mix of the pooled states so far. So
    the early answer is that of the mix. For multi-label the least sure label counts, and all labels have to be said;
    for regression the rule never fires. Use it where single exits are weak and layers know different things.

    The paper has a classifier and a mix of its own at every exit, over states before the pooler, and the mix answers;
    here A, b and s are shared, and exits answer for themselves (our reading). Fitted on half of the texts to the least
    mean loss, T on the other half; the scheme `right_tool` trains A, b and s along with the model.

    Source: Schwartz et al., "The Right Tool for the Job", ACL 2020.
    """

    name: ClassVar[str] = "right_tool"
    summary: ClassVar[str] = (
        "leave when a classifier over a mix of all layers so far is sure, and the exit says its class"
    )
    citation: ClassVar[str] = (
        "Schwartz et al., The Right Tool for the Job: Matching Model and Instance Complexities, ACL 2020, "
        "arXiv:2004.07453"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})
    axes: ClassVar[Mapping[str, int]] = {"share": 1, "weight": 2, "bias": 1, "temperature": 1}
    sweep: ClassVar[Sweep] = {"threshold": CONFIDENCE_GRID}

    threshold: float = number(0.9, "leave when the mix's class is more probable than this", high=1.0)

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Fit shares and classifier on every other text, temperatures on the rest; values teach nothing."""
        pooled: Array = said.pooled
        texts, layers, width = pooled.shape
        task, classes = reading(said), said.probs.shape[-1]
        if not teaches(said):
            empty = {"weight": np.zeros((classes, width)), "bias": np.zeros(classes)}
            return {"share": np.ones(layers), "temperature": np.ones(layers), **empty}
        inputs, mean, spread = scaled(pooled.reshape(-1, width))
        states = inputs.reshape(pooled.shape)
        learnt, rest = slice(0, None, 2), slice(1 if texts > 1 else 0, None, 2)
        share, weight, bias = _fit(states[learnt], targets[learnt], classes, task)
        said_by_mix = _mixed(states[rest], share) @ weight.T + bias
        temperatures = [temperature(said_by_mix[:, layer], targets[rest], task) for layer in range(layers)]
        weight = weight / spread
        return {"share": share, "weight": weight, "bias": bias - weight @ mean, "temperature": temperatures}

    def start(self, rows: int, num_labels: int) -> State:
        """Return `mixed` [rows, H], the mix so far, and `mass` [rows], the shares in it."""
        super().start(rows, num_labels)
        width = self.weights["weight"].shape[-1]
        return {"mixed": np.zeros((rows, width), np.float32), "mass": np.zeros(rows, np.float32)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Mix the state in, ask the classifier, and compare its confidence with the threshold."""
        pooled: Array = output.pooled
        shares, weight, bias, temperature = (self.weights.like(name, pooled) for name in self.axes)
        at = (layer - 1).clip(max=len(shares) - 1)
        share, before = shares[at], state["mass"]
        mass = before + share
        mixed = (before[:, None] * state["mixed"] + share[:, None] * pooled) / mass[:, None]
        probs, agrees = opinion((products(mixed, weight) + bias) / temperature[at][:, None], output)
        confidence = reading(output).confidence(probs)
        found = {"fired": (confidence > self.threshold) & agrees, "confidence_of_the_mix": confidence}
        return found, {"mixed": mixed, "mass": mass}


def _mixed(states: Array, share: Array) -> Array:
    """Return the mix after every layer, [N, M, H]."""
    return (states * share[:, None]).cumsum(1) / share.cumsum()[:, None]


def _fit(states: Array, targets: NDArray[Any], classes: int, task: Task) -> tuple[Array, Array, Array]:
    """Return shares [M], which sum to 1, and weight [C, H] and bias [C] with the least loss, meaned over all layers."""
    texts, layers, width = states.shape
    ends = [layers, layers + classes * width]

    def parts(packed: NDArray[np.float64]) -> tuple[Array, Array, Array]:
        scores, weight, bias = np.split(packed, ends)
        powers = np.exp(scores - scores.max())
        return powers / powers.sum(), weight.reshape(classes, width), bias

    def objective(packed: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        share, weight, bias = parts(packed)
        mixed = _mixed(states, share)
        value, back = slope(mixed @ weight.T + bias, targets, task)
        # By the shares: m_i = Σ_{k≤i} s_k c_k / Σ_{k≤i} s_k, so ∂m_i / ∂s_k = (c_k − m_i) / Σ_{k≤i} s_k.
        pull = (back @ weight) / share.cumsum()[:, None]
        later = pull[:, ::-1].cumsum(1)[:, ::-1]  # Σ over the layers from k on
        own = (later * states).sum((0, 2)) - (pull * mixed).sum((0, 2))[::-1].cumsum()[::-1]
        by_score = share * (own - share @ own)
        by_weight = np.einsum("nmc,nmh->ch", back, mixed) + weight / texts
        gradient = np.concatenate([by_score, by_weight.reshape(-1), back.sum((0, 1))])
        return value + float((weight * weight).sum()) / (2 * texts), gradient

    return parts(np.asarray(descend(objective, np.zeros(ends[1] + classes)), np.float64))
