"""A whole data set seen through one full-depth recording and one policy: who left where, and what that changed.

Runs no model and draws nothing. N texts, M exits, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from elbert.exits import ExitPolicy, make
from elbert.results import LayerOutputs, ProblemType
from elbert.scoring.curves import LayerZeroCost, uncounted
from elbert.tasks import Task, task_of

if TYPE_CHECKING:
    from elbert.data import Text


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Who is right where.

    Attributes:
        at_exit: [N] whether the answer given is right.
        at_last: [N] whether the last layer's is.
    """

    at_exit: Tensor
    at_last: Tensor

    @property
    def corrected(self) -> Tensor:
        """Right at the exit, wrong at the last layer: overthinking mitigated, [N]."""
        return self.at_exit & ~self.at_last

    @property
    def hurt(self) -> Tensor:
        """Wrong at the exit, right at the last layer, [N]."""
        return ~self.at_exit & self.at_last

    @property
    def wrong(self) -> Tensor:
        """Wrong both ways, [N]."""
        return ~self.at_exit & ~self.at_last


@dataclass(frozen=True)
class Run:
    """What every exit said of every text, and which exit each text took.

    Attributes:
        texts: N strings or pairs.
        gold: N right answers, encoded as in a `TextDataset`; None where nobody knows.
        names: class names; empty for regression.
        outputs: the recording.
        exit_layer: [N] int64, from 1; 0 for texts that left at layer 0.
        policy: who left where.
        layer_0_cost: what layer 0 takes of every text under each policy, in layers.
    """

    texts: Sequence[Text]
    gold: Sequence[Any] | None
    names: tuple[str, ...]
    outputs: LayerOutputs
    exit_layer: Tensor
    policy: ExitPolicy
    layer_0_cost: LayerZeroCost = uncounted

    @property
    def problem_type(self) -> ProblemType:
        """How to read the outputs."""
        return self.outputs.problem_type

    @property
    def task(self) -> Task:
        """The same as what it means."""
        return task_of(self.problem_type)

    @property
    def layers(self) -> int:
        """M."""
        return self.outputs.probs.shape[1]

    @cached_property
    def exit_probs(self) -> Tensor:
        """[N, C] what the exit said that each text took."""
        return self.outputs.at(self.exit_layer)

    @cached_property
    def confidence(self) -> Tensor:
        """[N] probability of the answer given; minus infinite for regression."""
        sure: Tensor = self.task.confidence(self.exit_probs)
        return sure

    @cached_property
    def changed(self) -> Tensor:
        """[N] whether the exit's answer is another one than the last layer's; never for regression."""
        equal: Tensor = self.task.same(self.exit_probs, self.outputs.probs[:, -1], math.inf)
        return ~equal

    @cached_property
    def verdicts(self) -> Verdicts | None:
        """Who is right where, for multi-label with every label; None for regression, or without right answers."""
        if self.gold is None:
            return None
        gold = torch.tensor(self.gold)
        here, last = (self.task.right(probs, gold) for probs in (self.exit_probs, self.outputs.probs[:, -1]))
        return None if here is None or last is None else Verdicts(here, last)

    @cached_property
    def histogram(self) -> list[int]:
        """[M] texts that left after layer 1 … M."""
        return torch.bincount(self.exit_layer, minlength=self.layers + 1)[1:].tolist()

    @property
    def layer_0(self) -> int | None:
        """Texts that left at layer 0; None where that is off."""
        asked = self.policy.words is not None and self.outputs.words is not None
        return int((self.exit_layer == 0).sum()) if asked else None

    @property
    def stages(self) -> range:
        """Every layer at which texts may leave: 1 to M, and 0 before them where layer 0 is on."""
        return range(1 if self.layer_0 is None else 0, self.layers + 1)

    @property
    def mean_exit_layer(self) -> float:
        """Layers a text ran on average; where layer 0 is on, every text ran that too, at its cost."""
        return float(self.exit_layer.double().mean()) + self.layer_0_cost(self.policy)

    @property
    def layer_speedup(self) -> float | None:
        """Layers of full depth over those that a text ran on average; None where that was none at all."""
        full_depth = self.layers + self.layer_0_cost(make("full"))
        return full_depth / self.mean_exit_layer if self.mean_exit_layer else None

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers of the run as JSON."""
        verdicts = self.verdicts
        counted = ("at_exit", "at_last", "corrected", "hurt")
        return {
            "n": len(self.texts),
            "layers": self.layers,
            "mean_exit_layer": self.mean_exit_layer,
            "layer_speedup": self.layer_speedup,
            **({} if self.layer_0 is None else {"layer_0": self.layer_0}),
            **({"layer_0_cost": cost} if (cost := self.layer_0_cost(self.policy)) else {}),
            "exit_histogram": self.histogram,
            "changed": int(self.changed.sum()),
            "right": {name: None if verdicts is None else int(getattr(verdicts, name).sum()) for name in counted},
            "policy": self.policy.to_dict(),
        }
