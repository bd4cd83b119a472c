"""Full depth: no text leaves before the last layer. What every speedup and every accuracy drop is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elbert.exits.base import ExitPolicy, State
from elbert.results import ExitOutput


@dataclass(frozen=True)
class Full(ExitPolicy):
    """Never leave; the caller ends the row at layer M. Use it as the reference."""

    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "no early exit: every text runs all layers"
    citation: ClassVar[str] = "no paper: the model as it was trained"

    def earliest(self, num_layers: int) -> int:
        """Return the last layer: no other answer is used."""
        return num_layers

    def decide(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Keep every row."""
        del output
        return torch.zeros_like(layer, dtype=torch.bool), state

    def reasons(self, output: ExitOutput, layer: Tensor, state: State) -> list[tuple[bool, str]]:
        """Return the same words for every row."""
        del output, state
        return [(False, "full depth: no early exit")] * len(layer)
