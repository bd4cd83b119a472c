"""F-PABEE: leave when the class distribution has stopped moving. Remembers one output per row."""

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

    def start(self, rows: int, num_labels: int) -> State:
        """Return `last` [rows, C] and `streak` [rows]."""
        return {"last": unseen(rows, num_labels), "streak": no_streak(rows)}

    def waits(self, num_layers: int) -> int:
        """Return the layer behind `patience` steps."""
        del num_layers
        return self.patience + 1

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Count steps that moved nothing."""
        del layer
        probs = output.probs
        moved = reading(output).distance(state["last"], probs)
        streak = namespace(probs).where(moved < self.threshold, state["streak"] + 1, 0)
        found = {"fired": streak >= self.patience, "streak": streak}
        return found, {"last": copy(probs), "streak": streak}

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return the count."""
        del layer
        return f"{found['streak']} steps running with a divergence below {self.threshold:g}, patience {self.patience}"

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Thresholds from loose to tight, each with patience 1, 2, 3 and 4 where it fits."""
        thresholds = TOLERANCE_GRID if num_labels == 1 else (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0001)
        patiences = fitting((1, 2, 3, 4), num_layers - 1)
        return [cls(threshold, patience) for threshold in thresholds for patience in patiences]
