"""ELBERT's two-stage exit: sure enough now, or steady over a window. Learns nothing; remembers N outputs per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elbert.exits import scores
from elbert.exits.base import ExitPolicy, State
from elbert.exits.parameters import choice, count, fitting, number
from elbert.exits.state import unseen, widened
from elbert.exits.window import CRITERIA
from elbert.results import ExitOutput


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

    def start(self, rows: int, *, num_labels: int | None = None, device: torch.device | str | None = None) -> State:
        """Return `window` [rows, N, C], oldest output first; nothing where stage 2 is off."""
        if self.window is None:
            return {}
        return {"window": unseen(rows, self.window, num_labels or 0, device=device)}

    def decide(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Apply both stages."""
        del layer  # a window that is not yet full holds outputs unseen, and those hold no criterion
        probs = output.probs.float()
        kind = scores.reading(probs, output.problem_type)
        sure = scores.puzzlement(probs, kind) < self.threshold
        if self.window is None:
            return sure, state
        window = torch.cat((widened(state["window"], probs.shape[-1])[:, 1:], probs.unsqueeze(1)), 1)
        steady = CRITERIA[self.criterion](window, kind, self.tolerance)
        return sure | steady, {"window": window}

    def reasons(self, output: ExitOutput, layer: Tensor, state: State) -> list[tuple[bool, str]]:
        """Return the first stage that fired, or the numbers of both."""
        probs = output.probs.float()
        kind = scores.reading(probs, output.problem_type)
        steady = torch.zeros_like(layer, dtype=torch.bool)
        if self.window is not None:
            steady = CRITERIA[self.criterion](state["window"], kind, self.tolerance)
        puzzled = scores.puzzlement(probs, kind)
        sure = (puzzled < self.threshold).tolist()
        words = scores.describe_label(probs, kind)
        rows = zip(puzzled.tolist(), sure, steady.tolist(), layer.tolist(), words, strict=True)
        return [self._reason(*row) for row in rows]

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Thresholds from 1 down, each with the windows that fit and without one; tolerances for regression."""
        windows = fitting((3, 4, 6, 8), num_layers)
        if num_labels == 1:
            return [cls(0.0, window, "range", step) for window in windows for step in scores.TOLERANCE_GRID]
        return [cls(threshold, window) for threshold in scores.PUZZLEMENT_GRID for window in (*windows, None)]

    def _reason(self, puzzled: float, sure: bool, steady: bool, layer: int, word: str) -> tuple[bool, str]:
        numbers = f"{word}, puzzlement {puzzled:.4g}, threshold {self.threshold:g}"
        if sure:
            return True, f"stage 1: {numbers}"
        if self.window is None:
            return False, f"{numbers}; stage 2 is off"
        if steady:
            return True, f"stage 2: {self.criterion} over layers {layer - self.window + 1} to {layer}; {numbers}"
        if layer < self.window:
            return False, f"{numbers}; stage 2 starts at layer {self.window}"
        return False, f"{numbers}; not {self.criterion} over layers {layer - self.window + 1} to {layer}"
