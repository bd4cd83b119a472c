"""An exit policy for weights that have learnt nothing: where a text leaves is drawn, the work of deciding is real.

Only for `engine.py`, and no policy to use: it keeps count of the rows it has seen, so it is not a function of a row.
Made anew it draws the same once more; `Ours.begin` in the bench does so before every round.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from elbert.arrays import Array, constants, namespace
from elbert.exits import ExitPolicy, Found, State
from elbert.exits.elbert import Elbert
from elbert.exits.parameters import count, number, switch
from elbert.exits.registry import register
from elbert.results import ExitOutput

# Steps of this size, modulo 1, are spread as evenly as any: every stretch of rows has the mean asked for.
_GOLDEN = (math.sqrt(5) - 1) / 2


def distribution(layers: int, mean: float) -> Any:
    """Return [layers] shares of texts leaving at layer 1 … M: geometric, cut at M, with the given mean."""
    places = np.arange(layers)
    low, high = 1e-6, 1e6
    for _ in range(200):  # the mean grows with the ratio of neighbours
        ratio = math.sqrt(low * high)
        shares = np.exp(places * math.log(ratio) - max(0.0, (layers - 1) * math.log(ratio)))
        shares /= shares.sum()
        low, high = (ratio, high) if (shares * (places + 1)).sum() < mean else (low, ratio)
    return shares


@register
@dataclass(frozen=True)
class Drawn(ExitPolicy):
    """Leave at a layer drawn when the row came in; ELBERT's rule is computed at every layer and not listened to."""

    name: ClassVar[str] = "drawn"
    summary: ClassVar[str] = "leave at a drawn layer: for timing weights that have learnt nothing"
    citation: ClassVar[str] = "no paper"

    layer_speedup: float = number(3.0, "M over the mean of the drawn layers", low=1.0)
    layers: int = count(12, "M of the model")
    seed: int = count(1, "where the draws begin")
    window: int | None = count(8, "of ELBERT's rule, which is computed beside", low=2, may_be_off=True)
    by_content: bool = switch(False, "draw by what the first exit says: for a device that starts texts by itself")

    def __post_init__(self) -> None:
        """Work out the distribution once."""
        super().__post_init__()
        shares = distribution(self.layers, self.layers / self.layer_speedup)
        object.__setattr__(self, "_rule", Elbert(0.1, self.window))
        object.__setattr__(self, "_edges", shares.cumsum())
        object.__setattr__(self, "_seen", [self.seed * 1_000])

    def start(self, rows: int, num_labels: int) -> State:
        """Draw an exit layer per row."""
        rule = self._rule.start(rows, num_labels)  # type: ignore[attr-defined]
        if self.by_content:
            return {**rule, "drawn": np.zeros(rows, np.int64)}
        seen: list[int] = self._seen  # type: ignore[attr-defined]
        edges: list[float] = self._edges.tolist()  # type: ignore[attr-defined]
        numbers = range(seen[0], seen[0] + rows)
        seen[0] += rows
        layers = [min(bisect_right(edges, number * _GOLDEN % 1) + 1, self.layers) for number in numbers]
        return {**rule, "drawn": np.array(layers)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compute ELBERT's rule, then do as drawn."""
        rule = {name: value for name, value in state.items() if name != "drawn"}
        _, rule = self._rule.decide(rule, output, layer)  # type: ignore[attr-defined]
        drawn = state["drawn"]
        if self.by_content:
            edges = constants(tuple(self._edges.tolist()), layer)  # type: ignore[attr-defined]
            number = output.logits[:, 0] * 8191 % 1  # the last bits of a logit: as good as chance
            first = (edges[:-1] <= number[:, None]).sum(-1) + 1
            drawn = namespace(layer).where(drawn == 0, first, drawn)
        return {"fired": layer >= drawn}, {**rule, "drawn": drawn}
