"""ELBERT's two-stage exit: sure enough now, or steady over a window. Learns nothing; remembers N outputs per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elbert.arrays import Array, namespace, nowhere
from elbert.exits.base import ExitPolicy, Found, State, describe
from elbert.exits.grids import ENTROPY_GRID, TOLERANCE_GRID
from elbert.exits.parameters import choice, count, fitting, number
from elbert.exits.state import unseen
from elbert.results import ExitOutput
from elbert.tasks import Task, reading

# Given the task, window [rows, N, C] and the tolerance: is a text steady, [rows] bool?
CRITERIA: dict[str, Callable[[Task, Array, float], Array]] = {
    "monotone": lambda task, window, _: task.monotone(window),
    "range": lambda task, window, tolerance: task.within_range(window, tolerance),
    "agreement": lambda task, window, tolerance: task.agreement(window, tolerance),
}


@dataclass(frozen=True)
class Elbert(ExitPolicy):
    """Leave at the first layer i where H_i < threshold, or where the last `window` outputs hold the criterion.

    Rule: stage 1, H_i = Σ_j p_i(j) log p_i(j) / log(1/C) < threshold; stage 2, from layer N = `window` on, over the
    last N outputs, one of
      monotone: with c = ŷ_i, also ŷ_{i-N+1} = c, and p(c) never decreases;
      range: the label stays the same and max(p) varies by at most `tolerance`;
      agreement: the label stays the same (PABEE with patience N − 1).
    Multi-label: H is the greatest binary entropy of a label, the label is the set with p >= 0.5, `monotone` asks every
    label's decided side, and `range` every label's probability. Regression: no stage 1; `monotone` never fires,
    `range` asks that the values lie within `tolerance`, `agreement` that each differs from the one before by at most
    `tolerance`. Use it by default: `threshold` buys speed, the window catches texts that are steady but never sharp.

    Source: Xie et al., "ELBERT", ICASSP 2021; the multi-class form of `monotone` follows the authors' code.
    """

    name: ClassVar[str] = "elbert"
    summary: ClassVar[str] = (
        "leave when normalised entropy is below `threshold`, or steady over the last `window` layers"
    )
    citation: ClassVar[str] = (
        "Xie et al., ELBERT: Fast ALBERT with Confidence-Window Based Early Exit, ICASSP 2021, arXiv:2107.00175"
    )

    threshold: float = number(0.1, "stage 1: leave when the normalised entropy is below this", high=1.0)
    window: int | None = count(8, "stage 2: how many of the last outputs to look at", low=2, may_be_off=True)
    criterion: str = choice("monotone", "stage 2: what the window must show", choices=CRITERIA)
    tolerance: float = number(0.05, "the greatest spread `range` allows (and the greatest step of a regression value)")

    def start(self, rows: int, num_labels: int) -> State:
        """Return `window` [rows, N, C], oldest output first; nothing where stage 2 is off."""
        if self.window is None:
            return {}
        return {"window": unseen(rows, self.window, num_labels)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Apply both stages."""
        probs = output.probs
        task = reading(output)
        entropy = task.normalised_entropy(probs)
        sure = entropy < self.threshold
        if self.window is None:
            return {"fired": sure, "sure": sure, "normalised_entropy": entropy}, state
        # A window that is not yet full holds outputs unseen, and those hold no criterion.
        window = namespace(probs).concatenate((state["window"][:, 1:], probs[:, None]), axis=1)
        full = layer >= self.window
        steady = full if nowhere(full) else CRITERIA[self.criterion](task, window, self.tolerance)
        found = {"fired": sure | steady, "sure": sure, "normalised_entropy": entropy}
        return found | {"steady": steady, "full": full}, {"window": window}

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return the first stage that fired, or the numbers of both."""
        entropy = describe("normalised_entropy", found["normalised_entropy"])
        numbers = f"{entropy}, threshold {self.threshold:g}"
        if found["sure"]:
            return f"stage 1: {numbers}"
        if self.window is None:
            return f"{numbers}; stage 2 is off"
        if not found["full"]:
            return f"{numbers}; stage 2 starts at layer {self.window}"
        seen = f"{self.criterion} over layers {layer - self.window + 1} to {layer}"
        return f"stage 2: {seen}; {numbers}" if found["steady"] else f"{numbers}; not {seen}"

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Thresholds from 1 down, each with the windows that fit and without one; tolerances for regression."""
        windows = fitting((3, 4, 6, 8), num_layers)
        if num_labels == 1:
            return [cls(0.0, window, "range", step) for window in windows for step in TOLERANCE_GRID]
        return [cls(threshold, window) for threshold in ENTROPY_GRID for window in (*windows, None)]
