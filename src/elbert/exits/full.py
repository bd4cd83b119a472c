"""Full depth: no text leaves before the last layer. What every speedup and every accuracy drop is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elbert.arrays import Array
from elbert.exits.base import ExitPolicy, Found, State
from elbert.results import ExitOutput


@dataclass(frozen=True)
class Full(ExitPolicy):
    """Never leave; the caller ends the row at layer M. Use it as the reference."""

    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "no early exit: every text runs all layers"
    citation: ClassVar[str] = "no paper: the model as it was trained"

    def earliest(self, num_layers: int) -> int:
        """Return the last layer: no other answer is used."""
        return self.latest(num_layers)

    def waits(self, num_layers: int) -> int:
        """Return the last layer."""
        return num_layers

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Keep every row."""
        del output
        return {"fired": layer < 0}, state

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return the same words for every row."""
        del found, layer
        return "full depth: no early exit"
