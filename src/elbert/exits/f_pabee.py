"""F-PABEE: leave when the class distribution has stopped moving. Remembers one output per row."""

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
class FPabee(ExitPolicy):
    """Leave at the first layer i where the last `patience` steps each moved the distribution by less than `threshold`.

    Rule: cnt_1 = 0; cnt_i = cnt_{i-1} + 1 where D(p_i, p_{i-1}) < threshold, else 0; leave when cnt_i = patience. D is
    the Jensen-Shannon divergence in nats, at most log 2: H((p + q) / 2) − (H(p) + H(q)) / 2. For multi-label the
    greatest divergence of one label's yes or no counts; for regression D = |y_i − y_{i-1}|. Use it where `patience` is
    too coarse: between two whole numbers of layers the threshold still moves the exit.

    Source: Gao et al., "F-PABEE", ICASSP 2023, with the divergence they found best.
    """

    name: ClassVar[str] = "f_pabee"
    summary: ClassVar[str] = (
        "leave when the probabilities moved less than `threshold` for `patience` layers running (F-PABEE)"
    )
    citation: ClassVar[str] = (
        "Gao et al., F-PABEE: Flexible-patience-based Early Exiting for Single-label and Multi-label Text "
        "Classification Tasks, ICASSP 2023, arXiv:2305.11916"
    )

    threshold: float = number(0.01, "a step moves nothing when its divergence (in nats) is below this")
    patience: int = count(3, "such steps running before a text leaves")

    def start(self, rows: int, *, num_labels: int | None = None, device: torch.device | str | None = None) -> State:
        """Return `last` [rows, C] and `streak` [rows]."""
        return {"last": unseen(rows, num_labels or 0, device=device), "streak": no_streak(rows, device)}

    def decide(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Count steps that moved nothing."""
        del layer
        probs = output.probs.float()
        last = widened(state["last"], probs.shape[-1])
        still = scores.divergence(last, probs, output.problem_type) < self.threshold
        streak = torch.where(still, state["streak"] + 1, 0)
        return streak >= self.patience, {"last": probs.clone(), "streak": streak}

    def reasons(self, output: ExitOutput, layer: Tensor, state: State) -> list[tuple[bool, str]]:
        """Return the count of every row."""
        del layer
        words = scores.describe_label(output.probs, output.problem_type)
        return [
            (
                times >= self.patience,
                f"{word}; {times} steps running with a divergence below {self.threshold:g}, patience {self.patience}",
            )
            for word, times in zip(words, state["streak"].tolist(), strict=True)
        ]

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Thresholds from loose to tight, each with patience 1, 2, 3 and 4 where it fits."""
        thresholds = scores.TOLERANCE_GRID if num_labels == 1 else (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0001)
        patiences = fitting((1, 2, 3, 4), num_layers - 1)
        return [cls(threshold, patience) for threshold in thresholds for patience in patiences]
