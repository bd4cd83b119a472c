"""BEEM: exits that agree add up their confidence. Remembers one output and one sum per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from elbert.arrays import Array, copy, namespace
from elbert.exits.base import ExitPolicy, Found, State
from elbert.exits.parameters import choice, number
from elbert.exits.state import unseen
from elbert.results import ExitOutput
from elbert.tasks import reading

_READINGS = ("paper", "code")


@dataclass(frozen=True)
class Beem(ExitPolicy):
    """Leave at the first layer i where the confidence of the exits that agree adds up to `threshold`.

    Rule: S_1 = c_1; S_i = S_{i-1} + c_i where ŷ_i = ŷ_{i-1}, else c_i; leave when S_i >= threshold. c_i = max_j p_i(j);
    for multi-label the least sure label's max(p, 1 − p); regression has no confidence and never leaves early. All exits
    weigh the same (the paper weighs them by cost or by accuracy). Use it between `max_prob` and `patience`: a few sure
    layers count as much as many unsure ones.

    The authors' code does otherwise, which is `reading` = `code`: S_1 = 0; S_i = S_{i-1} + `growth` · (i − 1) · c_i
    where ŷ_i = ŷ_{i-1}, else 0. So an exit that disagrees loses its own confidence too, and a deep one counts more;
    their threshold is 1.5, and their `growth` 0.1 for BERT, 0.4 for ALBERT.

    Source: Bajpai and Hanawal, "BEEM", ICLR 2025.
    """

    name: ClassVar[str] = "beem"
    summary: ClassVar[str] = "leave when the summed confidence of exits that agree reaches `threshold` (BEEM)"
    citation: ClassVar[str] = (
        "Bajpai and Hanawal, BEEM: Boosting Performance of Early Exit DNNs using Multi-Exit Classifiers as Experts, "
        "ICLR 2025, arXiv:2502.00745"
    )

    threshold: float = number(2.5, "leave when the summed confidence reaches this; a sure layer adds almost 1")
    reading: str = choice("paper", "whose sum: all exits alike, or as the authors' code weighs them", choices=_READINGS)
    growth: float = number(0.1, "with reading code: what a sure layer adds, times the layers before it")

    def start(self, rows: int, num_labels: int) -> State:
        """Return `last` [rows, C] and `total` [rows]."""
        return {"last": unseen(rows, num_labels), "total": np.zeros(rows, np.float32)}

    def waits(self, num_layers: int) -> int:
        """Return 2 where one output makes no sum yet, else 1."""
        del num_layers
        return 2 if self.reading == "code" and self.threshold > 0 else 1

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Add up confidence."""
        probs, task, xp = output.probs, reading(output), namespace(output.probs)
        same = task.same(state["last"], probs, 0.0)
        sure = task.confidence(probs)
        alone = sure  # what is left of the sum where exits disagree
        if self.reading == "code":
            alone = xp.where(sure < 0, sure, 0)  # values have no confidence, and none they keep
            sure = self.growth * (xp.asarray(layer, dtype=sure.dtype) - 1) * sure.clip(min=0)
        total = xp.where(same, state["total"] + sure, alone)
        return {"fired": total >= self.threshold, "summed_confidence": total}, {"last": copy(probs), "total": total}

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Sums from half a sure layer up to M − 1 of them, in halves."""
        del num_labels
        return [cls(half / 2) for half in range(1, max(2, 2 * num_layers - 1))]
