"""EPEE: leave when one layer is sure, or when the prediction has stayed the same. Remembers one output per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elbert.arrays import Array, copy, namespace
from elbert.exits.base import ExitPolicy, Found, State, describe
from elbert.exits.grids import ENTROPY_GRID, TOLERANCE_GRID
from elbert.exits.parameters import count, fitting, number
from elbert.exits.state import no_streak, unseen
from elbert.results import ExitOutput
from elbert.tasks import reading


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

    def start(self, rows: int, num_labels: int) -> State:
        """Return `last` [rows, C] and `streak` [rows]."""
        return {"last": unseen(rows, num_labels), "streak": no_streak(rows)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Apply both rules."""
        del layer
        probs, task = output.probs, reading(output)
        same = task.same(state["last"], probs, self.tolerance)
        streak = namespace(probs).where(same, state["streak"] + 1, 0)
        entropy = task.normalised_entropy(probs)
        fired = (entropy < self.threshold) | (streak >= self.patience)
        found = {"fired": fired, "normalised_entropy": entropy, "streak": streak}
        return found, {"last": copy(probs), "streak": streak}

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return entropy and count."""
        del layer
        entropy = describe("normalised_entropy", found["normalised_entropy"])
        return (
            f"{entropy}, threshold {self.threshold:g}; "
            f"confirmed {found['streak']} times running, patience {self.patience}"
        )

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Thresholds from 1 down, each with patience 3 and 6 where it fits; for regression tolerances instead."""
        patiences = fitting((3, 6), num_layers - 1)
        if num_labels == 1:
            return [cls(0.0, patience, step) for patience in patiences for step in TOLERANCE_GRID]
        return [cls(threshold, patience) for threshold in ENTROPY_GRID for patience in patiences]
