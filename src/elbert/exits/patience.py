"""PABEE: leave when the prediction has stayed the same for long enough. Remembers one output per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elbert.exits.base import ExitPolicy, State
from elbert.exits.parameters import count, fitting, number
from elbert.exits.scores import TOLERANCE_GRID, describe_label, same_label
from elbert.exits.state import no_streak, unseen, widened
from elbert.results import ExitOutput


@dataclass(frozen=True)
class Patience(ExitPolicy):
    """Leave at the first layer i where the prediction equals the one before it for the `patience`-th time running.

    Rule: cnt_1 = 0; cnt_i = cnt_{i-1} + 1 where ŷ_i = ŷ_{i-1}, else 0; leave when cnt_i = patience. For regression
    |y_i − y_{i-1}| < tolerance counts as equal; for multi-label the whole set of labels must be equal. The earliest
    exit is layer patience + 1. Use it where probabilities can't be trusted, or for regression.

    Source: Zhou et al., "BERT Loses Patience", NeurIPS 2020.
    """

    name: ClassVar[str] = "patience"
    summary: ClassVar[str] = "leave when the prediction has stayed the same `patience` times running (PABEE)"
    citation: ClassVar[str] = (
        "Zhou et al., BERT Loses Patience: Fast and Robust Inference with Early Exit, NeurIPS 2020, arXiv:2006.04152"
    )

    patience: int = count(6, "equal predictions running before a text leaves")
    tolerance: float = number(0.05, "regression only: a change of the value smaller than this counts as equal")

    def start(self, rows: int, *, num_labels: int | None = None, device: torch.device | str | None = None) -> State:
        """Return `last` [rows, C] and `streak` [rows]."""
        return {"last": unseen(rows, num_labels or 0, device=device), "streak": no_streak(rows, device)}

    def decide(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Count equal predictions."""
        del layer
        probs = output.probs.float()
        last = widened(state["last"], probs.shape[-1])
        same = same_label(last, probs, output.problem_type, self.tolerance)
        streak = torch.where(same, state["streak"] + 1, 0)
        return streak >= self.patience, {"last": probs.clone(), "streak": streak}

    def reasons(self, output: ExitOutput, layer: Tensor, state: State) -> list[tuple[bool, str]]:
        """Return the count of every row."""
        del layer
        words = describe_label(output.probs, output.problem_type)
        return [
            (times >= self.patience, f"{word} was confirmed {times} times running, patience {self.patience}")
            for word, times in zip(words, state["streak"].tolist(), strict=True)
        ]

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Patience 1 … M − 2; for regression also a few tolerances, loosest first."""
        tolerances = TOLERANCE_GRID if num_labels == 1 else (0.05,)
        return [
            cls(patience, tolerance)
            for patience in fitting(range(1, num_layers + 1), num_layers - 1)
            for tolerance in tolerances
        ]
