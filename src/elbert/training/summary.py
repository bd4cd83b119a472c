"""What a finished run came to, as a frozen record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What one run came to.

    Attributes:
        out: the model folder.
        scheme: name of the loss scheme.
        metric: what the scores are.
        layer_scores: of every layer on the dev split, at the best step, with layer 0 where it is added to the exits.
        best_step: the step whose weights were kept.
        steps: optimiser steps done, all parts of a resumed run together.
        epochs: passes over the data done.
        seconds: wall-clock time of this call.
        train_rows: rows learnt from.
        dev_rows: rows scored on.
        scheme_weights: weight of every layer's loss at the best step.
        learning_rate: peak rate, as decided.
        dtype: of the matrix products, as decided.
        encoder_scores: `layer_scores` without layer 0, as other tools compute them; None where it is not added.
    """

    out: Path
    scheme: str
    metric: str
    layer_scores: tuple[float, ...]
    best_step: int
    steps: int
    epochs: float
    seconds: float
    train_rows: int
    dev_rows: int
    scheme_weights: tuple[float, ...]
    learning_rate: float
    dtype: str
    encoder_scores: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON-ready values."""
        return {**asdict(self), "out": str(self.out)}
