"""EPEE: leave when one layer is sure, or when the prediction has stayed the same. Remembers one output per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elbert.exits import scores
from elbert.exits.base import ExitPolicy, State
from elbert.exits.parameters import count, fitting, number
from elbert.exits.state import no_streak, unseen, widened
from elbert.results import ExitOutput


@dataclass(frozen=True)
class Epee(ExitPolicy):
    """Leave at the first layer i where H_i < threshold, or where the prediction was repeated `patience` times running.

    Rule: `entropy` (normalised) or `patience`, whichever fires first: H_i < threshold, or cnt_i = patience with
    cnt_1 = 0 and cnt_i = cnt_{i-1} + 1 where ŷ_i = ŷ_{i-1}, else 0. For regression only the count is left, with
    |y_i − y_{i-1}| < tolerance counting as equal. For classification it is `elbert` with the `agreement` criterion and
    window = patience + 1, under the name and parameters of its own paper.

    Source: Zhan et al., "EPEE", 2025; entropy is normalised here, as in `elbert`.
    """

    name: ClassVar[str] = "epee"
    summary: ClassVar[str] = (
        "leave when normalised entropy is below `threshold`, or by `patience`, whichever is first (EPEE)"
    )
    citation: ClassVar[str] = (
        "Zhan et al., EPEE: Towards Efficient and Effective Foundation Models in Biomedicine, 2025, arXiv:2503.02053"
    )

    threshold: float = number(0.1, "leave when the normalised entropy is below this", high=1.0)
    patience: int = count(6, "equal predictions running before a text leaves")
    tolerance: float = number(0.05, "regression only: a change of the value smaller than this counts as equal")

    def start(self, rows: int, *, num_labels: int | None = None, device: torch.device | str | None = None) -> State:
        """Return `last` [rows, C] and `streak` [rows]."""
        return {"last": unseen(rows, num_labels or 0, device=device), "streak": no_streak(rows, device)}

    def decide(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Apply both rules."""
        del layer
        probs = output.probs.float()
        last = widened(state["last"], probs.shape[-1])
        same = scores.same_label(last, probs, output.problem_type, self.tolerance)
        streak = torch.where(same, state["streak"] + 1, 0)
        sure = scores.puzzlement(probs, output.problem_type) < self.threshold
        return sure | (streak >= self.patience), {"last": probs.clone(), "streak": streak}

    def reasons(self, output: ExitOutput, layer: Tensor, state: State) -> list[tuple[bool, str]]:
        """Return entropy and count of every row."""
        del layer
        probs = output.probs.float()
        puzzled = scores.puzzlement(probs, output.problem_type)
        fired = (puzzled < self.threshold) | (state["streak"] >= self.patience)
        words = scores.describe_label(probs, output.problem_type)
        rows = zip(fired.tolist(), words, puzzled.tolist(), state["streak"].tolist(), strict=True)
        return [
            (
                held,
                f"{word}, puzzlement {score:.4g}, threshold {self.threshold:g}; "
                f"confirmed {times} times running, patience {self.patience}",
            )
            for held, word, score, times in rows
        ]

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Thresholds from 1 down, each with patience 3 and 6 where it fits; for regression tolerances instead."""
        patiences = fitting((3, 6), num_layers - 1)
        if num_labels == 1:
            return [cls(0.0, patience, step) for patience in patiences for step in scores.TOLERANCE_GRID]
        return [cls(threshold, patience) for threshold in scores.PUZZLEMENT_GRID for patience in patiences]
