"""BEEM: exits that agree add up their confidence. Remembers one output and one sum per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from elbert.arrays import Array, copy, namespace
from elbert.exits.base import ExitPolicy, Found, State
from elbert.exits.parameters import number
from elbert.exits.state import unseen
from elbert.results import ExitOutput
from elbert.tasks import reading


@dataclass(frozen=True)
class Beem(ExitPolicy):
    """Leave at the first layer i where the confidence of the exits that agree adds up to `threshold`.

    Rule: S_1 = c_1; S_i = S_{i-1} + c_i where ŷ_i = ŷ_{i-1}, else c_i; leave when S_i >= threshold. c_i = max_j p_i(j);
    for multi-label the least sure label's max(p, 1 − p); regression has no confidence and never leaves early. All exits
    weigh the same (the paper weighs them by cost or by accuracy). Use it between `max_prob` and `patience`: a few sure
    layers count as much as many unsure ones.

    Source: Bajpai and Hanawal, "BEEM", ICLR 2025.
    """

    name: ClassVar[str] = "beem"
    summary: ClassVar[str] = "leave when the summed confidence of exits that agree reaches `threshold` (BEEM)"
    citation: ClassVar[str] = (
        "Bajpai and Hanawal, BEEM: Boosting Performance of Early Exit DNNs using Multi-Exit Classifiers as Experts, "
        "ICLR 2025, arXiv:2502.00745"
    )

    threshold: float = number(2.5, "leave when the summed confidence reaches this; a sure layer adds almost 1")

    def start(self, rows: int, num_labels: int) -> State:
        """Return `last` [rows, C] and `total` [rows]."""
        return {"last": unseen(rows, num_labels), "total": np.zeros(rows, np.float32)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Add up confidence."""
        del layer
        probs, task = output.probs, reading(output)
        same = task.same(state["last"], probs, 0.0)
        sure = task.confidence(probs)
        total = namespace(probs).where(same, state["total"] + sure, sure)
        return {"fired": total >= self.threshold, "summed_confidence": total}, {"last": copy(probs), "total": total}

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Sums from half a sure layer up to M − 1 of them, in halves."""
        del num_labels
        return [cls(half / 2) for half in range(1, max(2, 2 * num_layers - 1))]
