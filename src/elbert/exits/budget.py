"""Budget: the user says how many layers, or milliseconds, a text may take on average; thresholds follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array, constants
from elbert.errors import UsageError
from elbert.exits.base import ExitPolicy, Found, State
from elbert.exits.learned import Learned
from elbert.exits.parameters import number, per_layer
from elbert.results import ExitOutput
from elbert.tasks import reading

# Budgets that thresholds are fitted for, per layer; between two of them thresholds are interpolated.
_STEPS = 4


@dataclass(frozen=True)
class Budget(Learned):
    """Leave at the first layer i where max_j p_i(j) > t_i, with t_1 … t_{M-1} such that texts run `layers` on average.

    Rule: a share r_i of all texts is to leave at layer i, r_i in proportion to ρ^i, with ρ such that Σ i r_i = layers;
    t_i is the quantile of the confidence at layer i, among the texts still there, that lets this share go. For
    multi-label the least sure label's confidence counts; regression has none and never leaves early. Use it where the
    mean cost is what is given: it holds on texts like those it was fitted on, without any label.

    A budget in milliseconds is one in layers: that whose shares r_i take Σ r_i · e_i on average, as far as 1 to M
    layers reach, e_i what a text takes that leaves at layer i: `exit_milliseconds`, else what `timed` was told.

    Fitted on recorded probabilities. Geometric shares and plain confidence are our reading: EENet trains two small nets
    for shares and scores.

    Source: Ilhan et al., "EENet", WACV 2024; geometric shares from Huang et al., "MSDNet", ICLR 2018.
    """

    name: ClassVar[str] = "budget"
    summary: ClassVar[str] = "leave by thresholds that make texts run `layers` layers on average (EENet)"
    citation: ClassVar[str] = (
        "Ilhan et al., Adaptive Deep Neural Network Inference Optimization with EENet, WACV 2024, arXiv:2301.07099; "
        "Huang et al., Multi-Scale Dense Networks for Resource Efficient Image Classification, ICLR 2018, "
        "arXiv:1703.09844"
    )
    axes: ClassVar[Mapping[str, int]] = {"thresholds": 2, "exit_milliseconds": 1}

    layers: float = number(4.0, "layers a text may run on average", low=1.0, of_layers=True)
    milliseconds: float | None = number(None, "milliseconds a text may take on average, in place of `layers`")
    exit_milliseconds: tuple[float, ...] | None = per_layer(
        "milliseconds of a text that leaves at each layer, in place of those that elbert calibrate measured"
    )

    def __post_init__(self) -> None:
        """Check what layers are said to take; raises UsageError."""
        super().__post_init__()
        taken = self.exit_milliseconds
        if taken is not None and self.milliseconds is None:
            raise UsageError(
                f"exit policy 'budget': exit_milliseconds is {list(taken)} and milliseconds None; give both, or layers "
                "alone"
            )
        if taken is not None and any(later < sooner for sooner, later in pairwise(taken)):
            raise UsageError(
                f"exit policy 'budget': exit_milliseconds is {list(taken)}; allowed: what a text takes from its start "
                "to each exit, so never less at a later one"
            )

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Return thresholds [1 + 4 (M − 1), M − 1] for budgets of 1 to M layers in quarters; no exit is timed yet."""
        del targets
        sure = reading(said).confidence(said.probs)
        depth = sure.shape[1]
        sure = np.where(np.isfinite(sure), sure, 0.0)
        steps = range(_STEPS * (depth - 1) + 1)
        return {"thresholds": [_thresholds(sure, 1 + step / _STEPS) for step in steps], "exit_milliseconds": []}

    def with_tensors(self, tensors: Mapping[str, ArrayLike]) -> Self:
        """Return the policy with these weights; those of a model whose exits were never timed need not say so."""
        return super().with_tensors({"exit_milliseconds": (), **tensors})

    def timed(self, taken: ArrayLike) -> Self:
        """Return the policy with what a text takes that leaves at each layer, [M] milliseconds that never fall."""
        return self.with_tensors({**self.tensors(), "exit_milliseconds": taken})

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the confidence with the layer's threshold."""
        sure = reading(output).confidence(output.probs)
        wanted = constants(self._at_budget(), sure)[(layer - 1).clip(max=self.weights["thresholds"].shape[1])]
        return {"fired": sure > wanted, "confidence": sure, "threshold": wanted}, state

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Half layers from 1 to M."""
        del num_labels
        return [cls(1 + half / 2) for half in range(2 * num_layers - 1)]

    def _at_budget(self) -> tuple[float, ...]:
        """Return the threshold of every layer at this budget; none is reached at the last."""
        table = self.weights["thresholds"]
        place = min((self._layers(table.shape[1] + 1) - 1) * _STEPS, len(table) - 1)
        low = int(place)
        high = min(low + 1, len(table) - 1)
        return (*(table[low] + (place - low) * (table[high] - table[low])).tolist(), 1.0)

    def _layers(self, depth: int) -> float:
        """Return the budget in layers."""
        if self.milliseconds is None:
            return self.layers
        taken = self.exit_milliseconds or self.weights["exit_milliseconds"].tolist()
        if not taken:
            raise UsageError(
                f"exit policy 'budget': milliseconds is {self.milliseconds:g}, and nobody measured what exits take: "
                "run elbert calibrate with --policy budget, or give exit_milliseconds"
            )
        if len(taken) != depth:
            raise UsageError(
                f"exit policy 'budget': exit_milliseconds has {len(taken)} numbers; allowed: {depth}, one for each "
                "layer of the model"
            )
        most = self.milliseconds
        return _greatest(1.0, float(depth), lambda layers: float(_shares(layers, depth) @ np.array(taken)) <= most)


def _thresholds(sure: NDArray[Any], budget: float) -> list[float]:
    """Return t_1 … t_{M-1} that make texts of this confidence [N, M] run `budget` layers on average."""
    texts, depth = sure.shape
    due = np.rint(np.cumsum(_shares(budget, depth)) * texts).astype(int)
    here, gone, thresholds = np.arange(texts), 0, []
    for layer in range(depth - 1):
        ordered = np.sort(sure[here, layer])[::-1]
        leaving = due[layer] - gone
        # The surest of those that stay: equals make the share smaller, never larger. At 0 all leave, at 1 nobody.
        wanted = 1.0 if leaving <= 0 else float(ordered[leaving]) if leaving < len(ordered) else 0.0
        stay = sure[here, layer] <= wanted
        gone, here = gone + int((~stay).sum()), here[stay]
        thresholds.append(wanted)
    return thresholds


def _shares(budget: float, depth: int) -> NDArray[np.float64]:
    """Return shares [M] in proportion to ρ^i whose mean layer is `budget`, found by log ρ."""
    layers = np.arange(1, depth + 1)
    return _geometric(_greatest(-50.0, 50.0, lambda power: float(_geometric(power, layers) @ layers) < budget), layers)


def _greatest(low: float, high: float, holds: Callable[[float], bool]) -> float:
    """Return the greatest value up to which a condition holds, by bisection; `low` where it holds nowhere."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _geometric(power: float, layers: NDArray[Any]) -> NDArray[np.float64]:
    terms = np.exp(power * layers - (power * layers).max())
    return np.asarray(terms / terms.sum(), np.float64)
