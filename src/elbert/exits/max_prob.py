"""Max probability: leave when the predicted class is probable enough (Right Tool). Keeps no state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from elbert.arrays import Array, constants
from elbert.exits.base import ExitPolicy, Found, State
from elbert.exits.grids import CONFIDENCE_GRID
from elbert.exits.parameters import number, per_layer
from elbert.results import ExitOutput
from elbert.tasks import reading


@dataclass(frozen=True)
class MaxProb(ExitPolicy):
    """Leave at the first layer i where max_j p_i(j) > threshold.

    Rule: p_i = softmax(z_i / T_i), with T_i = 1 where no `temperature` is given; layers beyond the list take its last
    number. For multi-label the least sure label counts, min_j max(p_j, 1 − p_j); for regression the rule never fires.
    Use it when the threshold should read as a probability, best after fitting temperatures on held-out data.

    Source: Schwartz et al., "The Right Tool for the Job", ACL 2020.
    """

    name: ClassVar[str] = "max_prob"
    summary: ClassVar[str] = "leave when the predicted class has a probability above `threshold` (Right Tool)"
    citation: ClassVar[str] = (
        "Schwartz et al., The Right Tool for the Job: Matching Model and Instance Complexities, ACL 2020, "
        "arXiv:2004.07453"
    )

    threshold: float = number(0.9, "leave when the predicted class is more probable than this", high=1.0)
    temperature: tuple[float, ...] | None = per_layer("divide the logits of layer i by the i-th number")

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the confidence with the threshold."""
        score = self._score(output, layer)
        return {"fired": score > self.threshold, "confidence": score}, state

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Thresholds from chance, which lets all leave at once, up to 0.9999."""
        del num_layers
        chance = 1 / max(num_labels, 2)
        return [cls(chance), *(cls(threshold) for threshold in CONFIDENCE_GRID if threshold > chance)]

    def _score(self, output: ExitOutput, layer: Array) -> Array:
        task = reading(output)
        if self.temperature is None:
            return task.confidence(output.probs)
        scale = constants(self.temperature, layer)[(layer - 1).clip(max=len(self.temperature) - 1)]
        return task.confidence(task.probabilities(output.logits / scale[:, None]))
