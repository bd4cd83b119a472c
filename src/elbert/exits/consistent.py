"""ConsistentEE's policy heads: at every layer a learned unit says whether to leave. Reads pooled states; no memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array, namespace, own_products, sigmoid
from elbert.exits.base import Found, State, Sweep
from elbert.exits.fitting import descend, leaving, losses, scaled, wrongness
from elbert.exits.learned import Learned
from elbert.exits.parameters import number
from elbert.results import ExitOutput

# Hidden units of each head, the paper's.
_UNITS = 32
_GRID = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
_GELU = math.sqrt(2 / math.pi)


@dataclass(frozen=True)
class Consistent(Learned):
    """Leave at the first layer i where π_i > threshold, π_i = σ(v_i · gelu(W_i c_i + a_i) + b_i).

    Rule: c_i is the pooled state of exit i; every layer before the last has a head of its own with 32 hidden units. Use
    it where the cost of depth should be weighed while learning: easy texts pay for it, hard ones don't.

    Fitted on recorded states to the greatest mean reward −L_i − cost · i · (1 − m / M): L_i is the loss of exit i, and
    m the first layer from which all exits are right about the text, M where none is. The mean over all exits is worked
    out where the paper samples eight (our reading), the model stays as it is, and m comes from the texts that are
    fitted on. The paper's threshold is 0.5.

    Source: Zeng et al., "ConsistentEE", AAAI 2024.
    """

    name: ClassVar[str] = "consistent"
    summary: ClassVar[str] = "leave when the layer's own head says so with more than `threshold` (ConsistentEE)"
    citation: ClassVar[str] = (
        "Zeng et al., ConsistentEE: A Consistent and Hardness-Guided Early Exiting Method for Accelerating Language "
        "Models Inference, AAAI 2024, arXiv:2312.11882"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})
    axes: ClassVar[Mapping[str, int]] = {"hidden": 3, "hidden_bias": 2, "out": 2, "out_bias": 1}
    sweep: ClassVar[Sweep] = {"threshold": _GRID}

    threshold: float = number(0.5, "leave when the head says so with more than this", high=1.0)
    cost: float = number(0.05, "what a layer costs an easy text while the heads are fitted, in units of the loss")

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Fit the heads of all layers together; a text that leaves late pays the losses of the exits it passed by."""
        pooled: Array = said.pooled
        texts, layers, width = pooled.shape
        exits = layers - 1
        states = [scaled(pooled[:, exit]) for exit in range(exits)]
        costs, prior = self._costs(said, targets), np.zeros(layers)
        begin = np.random.default_rng(0).normal(0, 1 / math.sqrt(width), exits * _UNITS * width)
        heads = _Heads(exits, width)

        def objective(packed: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            parts = heads.unpacked(packed)
            scores, kept = heads.scores(parts, [inputs for inputs, _, _ in states])
            value, slope = leaving(scores, costs, prior, 0.0)
            gradient = heads.gradient(parts, kept, slope) + packed / texts
            return value + float(packed @ packed) / (2 * texts), gradient

        rest = np.zeros(heads.size - len(begin))
        found = heads.unpacked(
            np.asarray(descend(objective, np.concatenate([begin, rest])), np.float64) if exits else rest
        )
        for exit, (_, mean, spread) in enumerate(states):
            found["hidden"][exit] /= spread
            found["hidden_bias"][exit] -= found["hidden"][exit] @ mean
        return found

    def _costs(self, said: ExitOutput, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return what leaving costs a text at every exit, [N, M]."""
        layers = said.probs.shape[1]
        right = wrongness(said, targets) < 0.5
        steady = right[:, ::-1].cumprod(1).sum(1)  # exits right in a row, counted from the last
        memorised = np.where(steady > 0, layers - steady + 1, layers)
        depth = np.arange(1, layers + 1) * (1 - memorised[:, None] / layers)
        return np.asarray(losses(said, targets) + self.cost * depth)

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Ask the layer's head; there is none at the last."""
        pooled: Array = output.pooled
        hidden, shift, out, bias = (self.weights.like(name, pooled) for name in self.axes)
        xp = namespace(pooled)
        if not len(out):
            return {"fired": layer < 0, "says_leave": xp.zeros_like(pooled[:, 0])}, state
        at = (layer - 1).clip(max=len(out) - 1)
        said = _gelu(own_products(pooled, hidden, at) + shift[at], xp)
        chance = sigmoid((said * out[at]).sum(-1) + bias[at])
        return {"fired": chance > self.threshold, "says_leave": chance}, state


def _gelu(values: Array, xp: Any) -> Array:
    return values / 2 * (1 + xp.tanh(_GELU * (values + 0.044715 * values**3)))


class _Heads:
    """The heads of E exits over H units as one vector, with what they say and the way back."""

    def __init__(self, exits: int, width: int) -> None:
        self.shapes = {
            "hidden": (exits, _UNITS, width),
            "hidden_bias": (exits, _UNITS),
            "out": (exits, _UNITS),
            "out_bias": (exits,),
        }
        self.size = sum(math.prod(shape) for shape in self.shapes.values())

    def unpacked(self, packed: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the parts of the vector by name."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes.values()])[:-1]
        parts = np.split(packed, ends)
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def scores(self, parts: Mapping[str, Any], states: list[Any]) -> tuple[NDArray[np.float64], list[Any]]:
        """Return what the heads say, [N, E], of states [N, H] of every exit, and what the way back needs."""
        columns, kept = [], []
        for exit, inputs in enumerate(states):
            before = inputs @ parts["hidden"][exit].T.astype(np.float32) + parts["hidden_bias"][exit]
            bend = np.tanh(_GELU * (before + 0.044715 * before**3))
            after = before / 2 * (1 + bend)
            columns.append(after @ parts["out"][exit] + parts["out_bias"][exit])
            rises = (1 + bend) / 2 + before / 2 * (1 - bend**2) * _GELU * (1 + 3 * 0.044715 * before**2)
            kept.append((inputs, after, rises))
        return np.stack(columns, 1), kept

    def gradient(self, parts: Mapping[str, Any], kept: list[Any], slope: Any) -> NDArray[np.float64]:
        """Return the derivative by the vector, from that by the scores, [N, E]."""
        found: dict[str, list[Any]] = {name: [] for name in self.shapes}
        for exit, (inputs, after, rises) in enumerate(kept):
            here = slope[:, exit]
            back = here[:, None] * parts["out"][exit] * rises
            found["hidden"].append(back.T.astype(np.float32) @ inputs)
            found["hidden_bias"].append(back.sum(0))
            found["out"].append(here @ after)
            found["out_bias"].append(here.sum())
        return np.concatenate([np.asarray(values, np.float64).reshape(-1) for values in found.values()])
