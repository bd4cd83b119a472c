"""Fixed depth: every text leaves at the same layer. The baseline every early exit has to beat; looks at no output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from elbert.exits.base import ExitPolicy, State
from elbert.exits.parameters import count
from elbert.results import ExitOutput


@dataclass(frozen=True)
class Fixed(ExitPolicy):
    """Leave at layer i = `layer`.

    The first `layer` layers of the same model. Use it for a hard latency bound, and as the baseline.
    """

    name: ClassVar[str] = "fixed"
    summary: ClassVar[str] = "every text leaves at `layer`: the baseline of a constant depth"
    citation: ClassVar[str] = "no paper: the first layers of the same model"

    layer: int = count(6, "the layer every text leaves at; the last one where the model has fewer")

    def earliest(self, num_layers: int) -> int:
        """Return the layer every text leaves at."""
        return min(self.layer, num_layers)

    def latest(self, num_layers: int) -> int:
        """Return the same layer."""
        return self.earliest(num_layers)

    def decide(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Compare the depth."""
        del output
        return layer >= self.layer, state

    def reasons(self, output: ExitOutput, layer: Tensor, state: State) -> list[tuple[bool, str]]:
        """Return the depth of every row."""
        del output, state
        return [(depth >= self.layer, f"fixed exit at layer {self.layer}") for depth in layer.tolist()]

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Every layer."""
        del num_labels
        return [cls(layer) for layer in range(1, num_layers + 1)]
