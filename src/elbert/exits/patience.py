"""PABEE: leave when the prediction has stayed the same for long enough. Remembers one output per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elbert.arrays import Array, copy, namespace
from elbert.exits.base import ExitPolicy, Found, State
from elbert.exits.grids import TOLERANCE_GRID
from elbert.exits.parameters import count, fitting, number
from elbert.exits.state import no_streak, unseen
from elbert.results import ExitOutput
from elbert.tasks import reading


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

    def start(self, rows: int, num_labels: int) -> State:
        """Return `last` [rows, C] and `streak` [rows]."""
        return {"last": unseen(rows, num_labels), "streak": no_streak(rows)}

    def waits(self, num_layers: int) -> int:
        """Return the layer behind `patience` steps."""
        del num_layers
        return self.patience + 1

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Count equal predictions."""
        del layer
        probs = output.probs
        same = reading(output).same(state["last"], probs, self.tolerance)
        streak = namespace(probs).where(same, state["streak"] + 1, 0)
        found = {"fired": streak >= self.patience, "streak": streak}
        return found, {"last": copy(probs), "streak": streak}

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return the count."""
        del layer
        return f"confirmed {found['streak']} times running, patience {self.patience}"

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Patience 1 … M − 2; for regression also a few tolerances, loosest first."""
        tolerances = TOLERANCE_GRID if num_labels == 1 else (0.05,)
        return [
            cls(patience, tolerance)
            for patience in fitting(range(1, num_layers + 1), num_layers - 1)
            for tolerance in tolerances
        ]
