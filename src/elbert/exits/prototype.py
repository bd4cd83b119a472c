"""DE³-BERT: sure by entropy and near the prototype of a class. Reads pooled states; keeps no memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import LEAST, Array, amin, constants, distances, namespace
from elbert.exits.base import Found, State, Sweep, one_label
from elbert.exits.grids import ENTROPY_GRID
from elbert.exits.learned import Learned
from elbert.exits.parameters import number
from elbert.results import ExitOutput
from elbert.tasks import reading


@dataclass(frozen=True)
class Prototype(Learned):
    """Leave at the first layer i where EDR_i < threshold.

    Rule: DR = r_1 / (2 r_2), r_1 and r_2 the distances of the pooled state c_i to the nearest and second nearest
    prototype of layer i: 0 on a prototype, ½ between two. EDR = (λ + 1) / (λ / DR + 1 / H_i), a harmonic mean with the
    normalised entropy, λ = `balance`. For single label only: elsewhere the rule never fires. Use it where exits are
    sure of texts unlike any they were trained on.

    Prototypes are the means of each class's recorded states (our reading: the paper trains a net for them; a class
    without a text gets the mean of all).

    Source: He et al., "DE³-BERT", 2024.
    """

    name: ClassVar[str] = "prototype"
    summary: ClassVar[str] = "leave when entropy and distance to the class prototypes are below `threshold` (DE³-BERT)"
    citation: ClassVar[str] = (
        "He et al., DE³-BERT: Distance-Enhanced Early Exiting for BERT based on Prototypical Networks, 2024, "
        "arXiv:2402.05948"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})
    axes: ClassVar[Mapping[str, int]] = {"prototypes": 3}
    sweep: ClassVar[Sweep] = {"threshold": ENTROPY_GRID}

    threshold: float = number(0.2, "leave when the mean of entropy and distance ratio is below this", high=1.0)
    balance: float = number(1.0, "λ: what the distance ratio weighs against the entropy")

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Return the means of every class at every exit, [M, C, H]."""
        pooled: Array = said.pooled
        ids, classes = reading(said).of_one_class(targets), np.arange(said.probs.shape[-1])
        members = np.ones((len(targets), len(classes)), bool) if ids is None else ids[:, None] == classes
        members = np.where(members.any(0), members, True)
        sums = np.einsum("nc,nmh->mch", members.astype(np.float64), pooled)
        return {"prototypes": sums / members.sum(0)[:, None]}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the mean of entropy and distance ratio with the threshold."""
        prototypes = self.weights.like("prototypes", output.pooled)
        far = distances(output.pooled, prototypes, (layer - 1).clip(max=len(prototypes) - 1))
        xp, task = namespace(far), reading(output)
        if not one_label(output):
            never = xp.full_like(far[:, 0], math.inf)
            return {"fired": never < self.threshold, "uncertainty": never}, state
        numbers = constants(tuple(range(far.shape[-1])), far)
        others = xp.where(numbers == far.argmin(-1)[:, None], math.inf, far)
        ratio = amin(far, -1) / (2 * amin(others, -1)).clip(min=LEAST)
        entropy = task.normalised_entropy(output.probs)
        weighed = (self.balance * entropy + ratio).clip(min=LEAST)
        uncertainty = (self.balance + 1) * ratio * entropy / weighed
        return {"fired": uncertainty < self.threshold, "uncertainty": uncertainty}, state
