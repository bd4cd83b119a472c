"""EdgeBERT: the exit layer is read off a table right after layer 1. Remembers one number per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array, constants, namespace
from elbert.exits.base import Found, State, Sweep, describe
from elbert.exits.grids import ENTROPY_GRID
from elbert.exits.learned import Learned
from elbert.exits.parameters import number
from elbert.results import ExitOutput
from elbert.tasks import reading

_ROWS = 100
_MIDDLES = tuple((row + 0.5) / _ROWS for row in range(_ROWS - 1))

# Width of the kernel that smooths the table, in normalised entropy.
_WIDTH = 0.05


@dataclass(frozen=True)
class PredictedDepth(Learned):
    """Leave at the first layer i where H_i < threshold, or which was predicted after layer 1.

    Rule: a table has for every hundredth of H_1 the entropies to be expected of the layers that follow; the first layer
    whose expected entropy is below `threshold` is the predicted one (none: the last). Entropies are normalised; for
    multi-label the least certain label's counts; regression has none and never leaves early. Use it where the cost of a
    text must be known before it is paid: to plan, to sort by, to slow a clock down.

    The table is fitted to recorded entropies by a Gaussian kernel of width 0.05 (our reading: the paper trains a small
    network for it); it needs no labels.

    Source: Tambe et al., "EdgeBERT", MICRO 2021.
    """

    name: ClassVar[str] = "predicted_depth"
    summary: ClassVar[str] = (
        "leave at the layer predicted after layer 1, or when the entropy is below `threshold` (EdgeBERT)"
    )
    citation: ClassVar[str] = (
        "Tambe et al., EdgeBERT: Sentence-Level Energy Optimizations for Latency-Aware Multi-Task NLP Inference, "
        "MICRO 2021, arXiv:2011.14203"
    )
    axes: ClassVar[Mapping[str, int]] = {"table": 2}
    sweep: ClassVar[Sweep] = {"threshold": ENTROPY_GRID}

    threshold: float = number(0.2, "leave when the normalised entropy is, or was predicted to be, below this", high=1.0)

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Return the table [100, M − 1]: for H_1 = 0.00 … 0.99 the mean entropies of layers 2 … M of texts like it."""
        del targets
        entropies = reading(said).normalised_entropy(said.probs).clip(max=1).astype(np.float64)
        distance = (np.arange(_ROWS)[:, None] / _ROWS - entropies[None, :, 0]) / _WIDTH
        power = -(distance**2) / 2
        weight = np.exp(power - power.max(1, keepdims=True))
        return {"table": weight @ entropies[:, 1:] / weight.sum(1, keepdims=True)}

    def start(self, rows: int, num_labels: int) -> State:
        """Return `predicted` [rows], 0 until layer 1 has been seen."""
        super().start(rows, num_labels)
        return {"predicted": np.zeros(rows, np.int64)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the entropy with the threshold and the layer with the predicted one."""
        entropy = reading(output).normalised_entropy(output.probs)
        xp = namespace(entropy)
        nearest = (entropy[:, None] > constants(_MIDDLES, entropy)).sum(-1)
        unsure = xp.where(self.weights.like("table", entropy)[nearest] < self.threshold, 0, 1)
        ahead = 2 + xp.cumprod(unsure, -1).sum(-1)
        predicted = xp.where(layer == 1, ahead, state["predicted"])
        found = {"fired": (entropy < self.threshold) | (layer == predicted), "normalised_entropy": entropy}
        return found | {"predicted_layer": predicted}, {"predicted": predicted}

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return the entropy and the predicted layer."""
        del layer
        entropy = describe("normalised_entropy", found["normalised_entropy"])
        return f"{entropy}, threshold {self.threshold:g}; predicted layer {found['predicted_layer']}"
