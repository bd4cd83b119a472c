"""What every exit policy is: pure, vectorised, row-wise.

A policy reads what the exits say and decides which rows leave. It knows tensors only: no model, no tokenizer, no number
of layers (the caller forces every row to leave at the last one). State lives outside, is indexed by row, and rows of
one call may stand at different depths.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from elbert.errors import NotFiniteError, UsageError, did_you_mean
from elbert.exits import parameters
from elbert.results import ExitOutput

State: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class ExitPolicy(ABC):
    """Base of all exit policies: frozen dataclasses whose fields are the parameters.

    A subclass sets the three class variables, describes its fields with `elbert.exits.parameters`, and writes `decide`;
    `start` where it keeps state, `reasons` and `grid` to be pleasant. Nothing may depend on another row of the call.

    Attributes:
        name: the word users write.
        summary: the rule in one line.
        citation: the paper it comes from.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    citation: ClassVar[str]

    def __post_init__(self) -> None:
        """Check every described parameter; raises UsageError."""
        parameters.validate(self)

    def start(self, rows: int, *, num_labels: int | None = None, device: torch.device | str | None = None) -> State:
        """Return the state of `rows` rows that have run no layer.

        Args:
            rows: how many rows.
            num_labels: C; where None, tensors that need C have trailing width 0 until their first update.
            device: where the state lives.
        """
        del rows, num_labels, device  # most rules remember nothing
        return {}

    def earliest(self, num_layers: int) -> int:
        """Return the first layer, 1-based, whose output the rule looks at; the engine skips the exits before it.

        Only a rule that keeps no state may say more than 1.

        Args:
            num_layers: M of the model.
        """
        del num_layers
        return 1

    def latest(self, num_layers: int) -> int:
        """Return the layer, 1-based, by which every row has left; where it is `earliest`, an engine need not ask.

        Args:
            num_layers: M of the model.
        """
        return num_layers

    def update(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Decide which rows leave; the input state is left as it was.

        Args:
            state: of these rows, from `start` or the last `update`.
            output: what the exit says, [rows, C].
            layer: [rows] int64, the 1-based layer each row has just run, one more than at its last update.

        Returns:
            (leave [rows] bool, new state of the same rows).

        Raises:
            NotFiniteError: a probability is NaN or infinite.
        """
        self.check(output, layer)
        return self.decide(state, output, layer)

    @abstractmethod
    def decide(self, state: State, output: ExitOutput, layer: Tensor) -> tuple[Tensor, State]:
        """Apply the rule: `update` without the check of its input, and without any wait for the device."""

    @staticmethod
    def check(output: ExitOutput, layer: Tensor) -> None:
        """Raise NotFiniteError naming row and layer where a probability is NaN or infinite; one small sum otherwise."""
        if math.isfinite(output.probs.sum().item()):
            return
        bad = (~output.probs.isfinite()).any(-1).nonzero().flatten().tolist()
        if bad:  # a sum may overflow although every value is finite
            raise NotFiniteError(f"row {bad[0]}", int(layer[bad[0]]), bad)

    def explain(self, output: ExitOutput, layer: Tensor, state: State, leave: Tensor) -> list[str]:
        """Say in one plain line per row which rule fired, or why none did, with the numbers.

        Args:
            output: what `update` was given.
            layer: [rows], likewise.
            state: what `update` returned.
            leave: [rows] bool, as returned, or forced to True by the caller at the last layer.
        """
        lines = []
        reasons = self.reasons(output, layer, state)
        for depth, left, (fired, why) in zip(layer.tolist(), leave.tolist(), reasons, strict=True):
            verdict = "goes on" if not left else "leaves" if fired else "leaves as no layer is left"
            lines.append(f"layer {depth}: {verdict}: {why}")
        return lines

    def reasons(self, output: ExitOutput, layer: Tensor, state: State) -> list[tuple[bool, str]]:
        """Return (did the rule fire, the numbers behind it) per row; arguments as in `explain`."""
        del output, state
        return [(True, self.summary)] * len(layer)

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Return a sensible sweep of the parameters, fastest first.

        Args:
            num_layers: M of the model.
            num_labels: C of the model; 1 is read as regression.
        """
        del num_layers, num_labels
        return [cls()]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object saved with a model: the name, then every parameter."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"name": self.name} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ExitPolicy:
        """Return the policy that `to_dict` described; a parameter left out takes its default.

        Raises:
            UsageError: no name, an unknown name or parameter (the line names the closest), or a value out of range.
        """
        from elbert.exits import registry  # the registry holds subclasses of this class

        if not isinstance(values, Mapping) or "name" not in values:
            raise UsageError(
                f"an exit policy is an object with a name{did_you_mean('', registry.names())}; given: {values!r}"
            )
        given = dict(values)
        return registry.build(given.pop("name"), given)
