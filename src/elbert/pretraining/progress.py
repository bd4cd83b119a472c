"""Where a run stands, and what it says about itself. Frozen records; nothing is trained or written here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        epoch: passes over the corpus done.
        batch: micro-batches of the present pass done.
        tokens: training tokens seen.
        seconds: spent training and evaluating, over all parts of a resumed run.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def advance(self, batches: int, tokens: int, seconds: float) -> Progress:
        """Return the progress after one more step of so many micro-batches and tokens, at `seconds`."""
        return replace(
            self, step=self.step + 1, batch=self.batch + batches, tokens=self.tokens + tokens, seconds=seconds
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a run says at a checkpoint.

    Attributes:
        progress: where it stands.
        done: used part of the budget, in [0, 1].
        loss: mean training loss of each objective since the last report.
        held_out: the same on the held-out documents.
        tokens_per_second: since the last report, evaluation left out.
    """

    progress: Progress
    done: float
    loss: dict[str, float]
    held_out: dict[str, float]
    tokens_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Return the line of the log."""
        return {
            "step": self.progress.step,
            "tokens": self.progress.tokens,
            "minutes": round(self.progress.seconds / 60, 2),
            "done": round(self.done, 4),
            "tokens_per_second": round(self.tokens_per_second),
            "loss": {name: round(value, 4) for name, value in self.loss.items()},
            "held_out": {name: round(value, 4) for name, value in self.held_out.items()},
        }


@dataclass(frozen=True, slots=True)
class PretrainSummary:
    """What a finished run comes to: the last line `elbert pretrain` writes.

    Attributes:
        out: the encoder's folder.
        parameters: of the encoder.
        steps: optimiser steps.
        tokens: training tokens.
        seconds: of training and evaluation.
        tokens_per_second: over the whole run.
        loss: of each objective, since the last checkpoint.
        held_out: of each objective, at the end.
    """

    out: str
    parameters: int
    steps: int
    tokens: int
    seconds: float
    tokens_per_second: float
    loss: dict[str, float]
    held_out: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON-ready values."""
        return dataclasses.asdict(self)


class Window:
    """Sums of losses over some tokens.

    Args:
        start: where the run stood when the window was opened.
    """

    def __init__(self, start: Progress) -> None:
        self.start = start
        self.tokens = 0
        self._sums: dict[str, float] = {}

    def add(self, tokens: int, losses: dict[str, float]) -> None:
        """Count the losses of so many tokens."""
        self.tokens += tokens
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + loss * tokens

    def means(self) -> dict[str, float]:
        """Return the mean loss over tokens, by objective."""
        return {name: total / self.tokens for name, total in self._sums.items()}
