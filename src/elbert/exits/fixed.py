"""Fixed depth: every text leaves at the same layer. The baseline every early exit has to beat; looks at no output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elbert.arrays import Array
from elbert.exits.base import ExitPolicy, Found, State
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
        return min(max(self.layer, self.min_layer), super().latest(num_layers))

    def latest(self, num_layers: int) -> int:
        """Return the same layer."""
        return self.earliest(num_layers)

    def waits(self, num_layers: int) -> int:
        """Return the layer every text leaves at."""
        del num_layers
        return self.layer

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the depth."""
        del output
        return {"fired": layer >= self.layer}, state

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return the depth."""
        del found, layer
        return f"fixed exit at layer {self.layer}"

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Every layer."""
        del num_labels
        return [cls(layer) for layer in range(1, num_layers + 1)]
