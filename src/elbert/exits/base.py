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
from elbert.exits.gates import Shortcut, SkipGates, gates
from elbert.exits.parameters import count, number
from elbert.exits.tokens import TokenSchedule, schedule
from elbert.results import ExitOutput, LayerOutputs
from elbert.tasks import reading

State: TypeAlias = dict[str, Array]

# What a rule found of every row, by name, each [rows]: `fired` (bool), whether it lets the row go, and the measures
# that made it so.
Found: TypeAlias = dict[str, Array]

# Parameters that a grid varies, each with its values, fastest first.
Sweep: TypeAlias = Mapping[str, Sequence[Any]]


# What of a policy is no exit's business: what is done to a text around its exits, whatever the rule.
AROUND = ("words", "tokens", "gates")


@dataclass(frozen=True)
class ExitPolicy(ABC):
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
        min_layer: no text leaves before this layer, except at layer 0.
        max_layer: every text leaves at this layer; None leaves it to the rule.
        words: threshold of layer 0; None switches it off.
        tokens: how many of its tokens a text keeps behind each layer; None keeps all.
        gates: which layers a text skips; None runs all up to its exit.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    citation: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = False
    sweep: ClassVar[Sweep] = {}

    _: dataclasses.KW_ONLY
    min_layer: int = count(1, "no text leaves before this layer, except at layer 0")
    max_layer: int | None = count(None, "every text leaves at this layer", may_be_off=True)
    words: float | None = number(None, "layer 0: leave when a class is more probable than this by the words", high=1.0)
    tokens: TokenSchedule | None = schedule("tokens kept behind layers, as shares or counts")  # noqa: RUF009 - a field
    gates: SkipGates | None = gates("skip a layer when its trained gate says so with at least this")  # noqa: RUF009

    def __post_init__(self) -> None:
        """Check every described parameter; raises UsageError."""
        parameters.validate(self)
        if self.learned and self.tokens is not None and self.tokens.score == "learned":
            raise UsageError(
                f"exit policy {self.name!r} learns, and so would its score of tokens; allowed: score attention"
            )
        if self.gates is not None and (self.learned or self.tokens is not None):
            other = "learns from every layer's exit" if self.learned else "drops tokens"
            raise UsageError(f"exit policy {self.name!r} {other}, and skips layers by gates; allowed: one of the two")
        if self.max_layer is not None and self.max_layer < self.min_layer:
            raise UsageError(
                f"exit policy {self.name!r}: max_layer is {self.max_layer}; allowed: min_layer ({self.min_layer}) or "
                "more: raise it, or lower min_layer"
            )

    def start(self, rows: int, num_labels: int) -> State:
        """Return the state of `rows` rows that have run no layer, as numpy arrays.

        Args:
            rows: how many rows.
            num_labels: C.
        """
        del rows, num_labels  # most rules remember nothing
        return {}

    @property
    def around(self) -> dict[str, Any]:
        """What the policy does around its exits, by name, as fields for another rule that is to do the same."""
        return {name: getattr(self, name) for name in AROUND}

    @property
    def shortcut(self) -> Shortcut | None:
        """What a text leaves out on its way to its exit: the schedule of tokens or the gates; None for nothing."""
        return self.tokens or self.gates

    def earliest(self, num_layers: int) -> int:
        """Return the first layer, 1-based, whose output the rule looks at; the engine skips the exits before it.

        Only a rule that keeps no state may say more than 1.

        Args:
            num_layers: M of the model.
        """
        return 1 if self.start(0, 1) else min(self.min_layer, self.latest(num_layers))

    def latest(self, num_layers: int) -> int:
        """Return the layer, 1-based, by which every row has left; where it is `earliest`, an engine need not ask.

        Args:
            num_layers: M of the model.
        """
        return num_layers if self.max_layer is None else min(self.max_layer, num_layers)

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

    def leaves(self, found: Found, layer: Array) -> Array:
        """Return which rows leave, [rows] bool: those whose rule fired, within `min_layer` and `max_layer`.

        Args:
            found: what `decide` returned.
            layer: [rows], likewise.
        """
        leave = found["fired"]
        if self.min_layer > 1:
            leave = leave & (layer >= self.min_layer)
        return leave if self.max_layer is None else leave | (layer >= self.max_layer)

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

    def _limit(self, fired: bool, layer: int) -> str:
        if fired and layer < self.min_layer:
            return f"; no text leaves before layer {self.min_layer}"
        if not fired and self.max_layer is not None and layer >= self.max_layer:
            return f"; every text leaves at layer {self.max_layer}"
        return ""

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

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object saved with a model: the name, the rule's parameters, and the common ones that are set.

        What every policy takes (`min_layer`, `max_layer`, `words`, `tokens`, `gates`) is left out where it has its
        default.
        """
        common = [field for field in dataclasses.fields(ExitPolicy) if getattr(self, field.name) != field.default]
        values = {field.name: getattr(self, field.name) for field in (*own_fields(self), *common)}
        return {"name": self.name} | {name: _plain(value) for name, value in values.items()}

    def tensors(self) -> dict[str, Array]:
        """Return the learned weights by name, as numpy arrays; none for a rule that learns nothing.

        Those of a learned score of tokens are called `tokens`, those of skip gates `gates`.
        """
        parts = {"tokens": self.tokens, "gates": self.gates}
        return {name: part.weights for name, part in parts.items() if part is not None and part.weights is not None}

    def with_tensors(self, tensors: Mapping[str, ArrayLike]) -> ExitPolicy:
        """Return the policy with these weights.

        Raises:
            UsageError: the rule has no such weights.
        """
        if self.tokens is not None and set(tensors) == {"tokens"}:
            return dataclasses.replace(self, tokens=self.tokens.with_weights(tensors["tokens"]))
        if self.gates is not None and set(tensors) == {"gates"}:
            return dataclasses.replace(self, gates=self.gates.with_weights(tensors["gates"]))
        if tensors:
            raise UsageError(f"exit policy {self.name!r} has no weights; given: {', '.join(sorted(tensors))}")
        return self

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


def _plain(value: Any) -> Any:
    if isinstance(value, TokenSchedule | SkipGates):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value


def one_label(output: ExitOutput) -> bool:
    """Tell whether a text has exactly one of several labels; what is ruled for that alone fires nowhere else."""
    return reading(output).exclusive


def own_fields(policy: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a policy or policy class that are parameters of its own rule, not common to all."""
    common = {field.name for field in dataclasses.fields(ExitPolicy)}
    return [field for field in dataclasses.fields(policy) if field.name not in common and field.compare]


def describe(name: str, value: float) -> str:
    """Return a measure or parameter in words: `normalised entropy 0.03`; one that is infinite does not exist."""
    words = name.replace("_", " ")
    return f"{words} {value + 0.0:.4g}" if math.isfinite(value) else f"no {words}"  # + 0.0: not "-0"
