"""What every exit policy is: pure, vectorised, row-wise.

A policy reads what the exits say and decides which rows leave. It knows arrays only: no model, no tokenizer, no number
of layers (the caller forces every row to leave at the last one). State lives outside, is indexed by row, and rows of
one call may stand at different depths. A rule is written once, with the operations of `elbert.arrays`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from numpy.typing import ArrayLike

from elbert.arrays import Array, namespace
from elbert.errors import NotFiniteError, UsageError, did_you_mean
from elbert.exits import parameters
from elbert.exits.common import CommonParameters, own_fields
from elbert.results import ExitOutput, LayerOutputs
from elbert.tasks import reading

State: TypeAlias = dict[str, Array]

# What a rule found of every row, by name, each [rows]: `fired` (bool), whether it lets the row go, and the measures
# that made it so.
Found: TypeAlias = dict[str, Array]

# Parameters that a grid varies, each with its values, fastest first.
Sweep: TypeAlias = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class ExitPolicy(CommonParameters, ABC):
    """Base of all exit policies: frozen dataclasses whose fields are the parameters.

    A subclass sets the three class variables, describes its fields with `elbert.exits.parameters`, and writes `decide`;
    `start` where it keeps state, `reason` and `sweep` to be pleasant. Nothing may depend on another row of the call.

    Attributes:
        name: the word users write.
        summary: the rule in one line.
        citation: the paper it comes from.
        needs: what the rule reads beside probabilities and logits: "pooled", or nothing.
        learned: whether it has weights to be fitted, see `elbert.exits.learned`.
        sweep: what its grid varies; empty where that depends on the model.
    """

    summary: ClassVar[str]
    citation: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    sweep: ClassVar[Sweep] = {}

    def start(self, rows: int, num_labels: int) -> State:
        """Return the state of `rows` rows that have run no layer, as numpy arrays.

        Args:
            rows: how many rows.
            num_labels: C.
        """
        del rows, num_labels  # most rules remember nothing
        return {}

    def earliest(self, num_layers: int) -> int:
        """Return the first layer, 1-based, whose output the rule looks at; the engine skips the exits before it.

        Only a rule that keeps no state may say more than 1.

        Args:
            num_layers: M of the model.
        """
        return 1 if self.start(0, 1) else min(self.min_layer, self.latest(num_layers))

    def soonest(self, num_layers: int) -> int:
        """Return the first layer, 1-based, by which a text can have left, whatever exits say; above M for never early.

        Args:
            num_layers: M of the model.
        """
        last = self.max_layer or num_layers + 1
        return min(max(self.waits(num_layers), self.min_layer), last)

    def waits(self, num_layers: int) -> int:
        """Return at which layer, 1-based, the rule itself can fire first; `num_layers` as in `soonest`."""
        del num_layers
        return 1

    def beyond(self, num_layers: int, exits: str = "layers") -> str | None:
        """Return a line where the parameters ask for more layers than there are; None where they don't.

        A default is nobody's wish, so one that is too large is told of only where no text could leave early for it.

        Args:
            num_layers: M of the model.
            exits: what there are M of: between the models of a cascade, those.
        """
        never, found = self.soonest(num_layers) > num_layers, []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in (known := parameters.specs(self)) or not known[field.name].of_layers or value is None:
                continue
            if (value > num_layers and value != field.default) or (never and value >= num_layers):
                found.append(f"{field.name} is {value:g}")
        if not found:
            return None
        end = ": every text goes to the last" if never else ", so that changes nothing"
        return f"exit policy {self.name!r}: {', '.join(found)}, and there are only {num_layers} {exits}{end}"

    def update(self, state: State, output: ExitOutput, layer: Array) -> tuple[Array, State]:
        """Decide which rows leave; the input state is left as it was.

        Args:
            state: of these rows, from `start` or the last `update`.
            output: what the exit says, [rows, C].
            layer: [rows] int64, the 1-based layer each row has just run: one more than at its last update, or with
                gates any later one.

        Returns:
            (leave [rows] bool, new state of the same rows), arrays of the kind that was given.

        Raises:
            NotFiniteError: a probability is NaN or infinite.
        """
        self.check(output, layer)
        found, state = self.decide(state, output, layer)
        return self.leaves(found, layer), state

    @abstractmethod
    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Apply the rule, without the check of its input and without any wait for the device.

        Args:
            state: as in `update`, as are the others.
            output: what the exit says.
            layer: [rows].

        Returns:
            (what the rule found, with `fired` [rows] bool; new state).
        """

    @staticmethod
    def check(output: ExitOutput, layer: Array) -> None:
        """Raise NotFiniteError naming row and layer where a probability is NaN or infinite."""
        finite = namespace(output.probs).isfinite(output.probs)
        if finite.all():
            return
        bad = [row for row, fine in enumerate(finite.all(-1).tolist()) if not fine]
        raise NotFiniteError(f"row {bad[0]}", int(layer[bad[0]]), bad)

    def explain(self, found: Found, output: ExitOutput, layer: Array, labels: Sequence[str] = ()) -> list[str]:
        """Say in one plain line per row what the prediction is and what the rule found; works nothing out anew.

        Args:
            found: what `decide` returned.
            output: what it was given.
            layer: [rows], likewise.
            labels: class names; where there are none, classes go by their numbers.
        """
        said = [reading(output).quoted(row, labels) for row in output.probs.tolist()]
        columns = {name: values.tolist() for name, values in found.items()}
        lines = []
        for row, (words, depth) in enumerate(zip(said, layer.tolist(), strict=True)):
            each = {name: values[row] for name, values in columns.items()}
            lines.append(f"{words}, {self.reason(each, depth)}{self._limit(each['fired'], depth)}")
        return lines

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return what the rule found of one row, in words with its numbers; by default measures, then parameters.

        Args:
            found: what `decide` found of this row, as plain numbers.
            layer: the layer it has just run.
        """
        del layer
        measures = [describe(name, value) for name, value in found.items() if name != "fired"]
        settings = {field.name: getattr(self, field.name) for field in own_fields(self)}
        numbers = [describe(name, value) for name, value in settings.items() if type(value) in (int, float)]
        return ", ".join([*measures, *numbers]) if measures else self.summary

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Return a sensible sweep of the parameters, fastest first: all settings of `sweep`.

        Args:
            num_layers: M of the model.
            num_labels: C of the model; 1 is read as regression.
        """
        del num_layers, num_labels
        settings = itertools.product(*cls.sweep.values())
        return [cls(**dict(zip(cls.sweep, values, strict=True))) for values in settings]

    def fit(self, outputs: LayerOutputs, targets: ArrayLike) -> ExitPolicy:
        """Return the policy with weights learned from recorded outputs; for learned policies only.

        Raises:
            UsageError: the rule learns nothing.
        """
        del outputs, targets
        raise UsageError(f"exit policy {self.name!r} learns nothing, so there is nothing to fit")

    @staticmethod
    def from_dict(values: Mapping[str, Any], tensors: Mapping[str, ArrayLike] | None = None) -> ExitPolicy:
        """Return the policy that `to_dict` described; a parameter left out takes its default.

        Args:
            values: from `to_dict`.
            tensors: from `tensors`; None leaves a learned policy without weights.

        Raises:
            UsageError: no name, an unknown name or parameter (the line names the closest), a value out of range, or
                weights that are not the rule's.
        """
        from elbert.exits import registry  # the registry holds subclasses of this class

        if not isinstance(values, Mapping) or "name" not in values:
            raise UsageError(
                f"an exit policy is an object with a name{did_you_mean('', registry.names())}; "
                f"given: {reprlib.repr(values)}"
            )
        given = dict(values)
        policy = registry.build(given.pop("name"), given)
        return policy.with_tensors(tensors) if tensors else policy


def one_label(output: ExitOutput) -> bool:
    """Tell whether a text has exactly one of several labels; what is ruled for that alone fires nowhere else."""
    return reading(output).exclusive


def describe(name: str, value: float) -> str:
    """Return a measure or parameter in words: `normalised entropy 0.03`; one that is infinite does not exist."""
    words = name.replace("_", " ")
    return f"{words} {value + 0.0:.4g}" if math.isfinite(value) else f"no {words}"  # + 0.0: not "-0"
