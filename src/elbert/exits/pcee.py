"""PCEE-BERT: leave when several layers running are confident. Remembers one count per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elbert.exits import scores
from elbert.exits.base import ExitPolicy, State
from elbert.exits.parameters import count, fitting, number
from elbert.results import ExitOutput


@dataclass(frozen=True)
class Pcee(ExitPolicy):
    """Leave at the first layer i where the last `patience` outputs each have H_i < threshold.

    Rule: cnt_i = cnt_{i-1} + 1 where the normalised entropy is below `threshold`, else 0 (cnt_0 = 0); leave when
    cnt_i = patience. The layers need not agree on the label. With patience 1 it is `entropy`. Regression has no entropy
    and never leaves early. Use it where single layers are sure of themselves too soon.

    Source: Zhang et al., "PCEE-BERT", Findings of NAACL 2022.
    """

    name: ClassVar[str] = "pcee"
    summary: ClassVar[str] = (
        "leave when normalised entropy was below `threshold` for `patience` layers running (PCEE-BERT)"
    )
    citation: ClassVar[str] = (
        "Zhang et al., PCEE-BERT: Accelerating BERT Inference via Patient and Confident Early Exiting, "
        "Findings of NAACL 2022"
    )

    threshold: float = number(0.2, "a layer is confident when its normalised entropy is below this", high=1.0)
    patience: int = count(2, "confident layers running before a text leaves")

    def start(self, rows: int, *, num_labels: int | None = None, device: torch.device | str | None = None) -> State:
        """Return `streak` [rows]."""
        del num_labels
        return {"streak": torch.zeros(rows, dtype=torch.int64, device=device)}

    def decide(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Count confident layers."""
        del layer
        confident = scores.puzzlement(output.probs.float(), output.problem_type) < self.threshold
        streak = torch.where(confident, state["streak"] + 1, 0)
        return streak >= self.patience, {"streak": streak}

    def reasons(self, output: ExitOutput, layer: Tensor, state: State) -> list[tuple[bool, str]]:
        """Return entropy and count of every row."""
        del layer
        rows = zip(
            scores.puzzlement(output.probs.float(), output.problem_type).tolist(), state["streak"].tolist(), strict=True
        )
        return [
            (
                times >= self.patience,
                f"puzzlement {puzzled:.4g}, threshold {self.threshold:g}; confident {times} times running, "
                f"patience {self.patience}",
            )
            for puzzled, times in rows
        ]

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Thresholds from 1 down, each with patience 2, 3 and 4 where it fits."""
        del num_labels
        patiences = fitting((2, 3, 4), num_layers)
        return [cls(threshold, patience) for threshold in scores.PUZZLEMENT_GRID for patience in patiences]
