"""BEEM: exits that agree add up their confidence. Remembers one output and one sum per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elbert.exits import scores
from elbert.exits.base import ExitPolicy, State
from elbert.exits.parameters import number
from elbert.exits.state import unseen, widened
from elbert.results import ExitOutput


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

    def start(self, rows: int, *, num_labels: int | None = None, device: torch.device | str | None = None) -> State:
        """Return `last` [rows, C] and `total` [rows]."""
        return {"last": unseen(rows, num_labels or 0, device=device), "total": torch.zeros(rows, device=device)}

    def decide(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Add up confidence."""
        del layer
        probs = output.probs.float()
        same = scores.same_label(widened(state["last"], probs.shape[-1]), probs, output.problem_type, 0.0)
        total = torch.where(same, state["total"], 0.0) + scores.confidence(probs, output.problem_type)
        leave = total >= self.threshold
        return leave, {"last": probs.clone(), "total": total}

    def reasons(self, output: ExitOutput, layer: Tensor, state: State) -> list[tuple[bool, str]]:
        """Return the sum of every row."""
        del layer
        words = scores.describe_label(output.probs, output.problem_type)
        fired = (state["total"] >= self.threshold).tolist()
        return [
            (held, f"{word}, summed confidence {total:.4g}, threshold {self.threshold:g}")
            for held, word, total in zip(fired, words, state["total"].tolist(), strict=True)
        ]

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Sums from half a sure layer up to M − 1 of them, in halves."""
        del num_labels
        return [cls(half / 2) for half in range(1, max(2, 2 * num_layers - 1))]
