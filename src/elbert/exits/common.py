"""What every policy takes, whatever its rule: between which layers texts leave, and what is done around the exits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike

from elbert.arrays import Array
from elbert.errors import UsageError
from elbert.exits import parameters
from elbert.exits.gates import Shortcut, SkipGates, gates
from elbert.exits.parameters import count, number
from elbert.exits.tokens import TokenSchedule, schedule

# What of a policy is no exit's business: what is done to a text around its exits, whatever the rule.
AROUND = ("words", "tokens", "gates")


@dataclass(frozen=True)
class CommonParameters:
    """Parameters that all policies have, checked with the rule's own, with what they mean and how they are saved.

    Attributes:
        min_layer: no text leaves before this layer, except at layer 0.
        max_layer: every text leaves at this layer; None leaves it to the rule.
        words: threshold of layer 0; None switches it off.
        tokens: how many of its tokens a text keeps behind each layer; None keeps all.
        gates: which layers a text skips; None runs all up to its exit.
    """

    name: ClassVar[str]
    learned: ClassVar[bool] = False

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
            told = f"exit policy {self.name!r} {other}, and cannot skip layers by gates too"
            raise UsageError(f"{told}; name another policy, or leave gates out")
        if self.max_layer is not None and self.max_layer < self.min_layer:
            raise UsageError(
                f"exit policy {self.name!r}: max_layer is {self.max_layer}; allowed: min_layer ({self.min_layer}) or "
                "more: raise it, or lower min_layer"
            )

    @property
    def around(self) -> dict[str, Any]:
        """What the policy does around its exits, by name, as fields for another rule that is to do the same."""
        return {name: getattr(self, name) for name in AROUND}

    @property
    def shortcut(self) -> Shortcut | None:
        """What a text leaves out on its way to its exit: the schedule of tokens or the gates; None for nothing."""
        return self.tokens or self.gates

    def latest(self, num_layers: int) -> int:
        """Return the layer, 1-based, by which every row has left; where it is `earliest`, an engine need not ask.

        Args:
            num_layers: M of the model.
        """
        return num_layers if self.max_layer is None else min(self.max_layer, num_layers)

    def leaves(self, found: Mapping[str, Array], layer: Array) -> Array:
        """Return which rows leave, [rows] bool: those whose rule fired, within `min_layer` and `max_layer`.

        Args:
            found: what a rule found of each, with `fired` [rows] bool.
            layer: [rows] that each has just run.
        """
        leave = found["fired"]
        if self.min_layer > 1:
            leave = leave & (layer >= self.min_layer)
        return leave if self.max_layer is None else leave | (layer >= self.max_layer)

    def _limit(self, fired: bool, layer: int) -> str:
        """Return the end of a reason: that a text stays, or leaves, for a limit and not by its rule; mostly nothing."""
        if fired and layer < self.min_layer:
            return f"; no text leaves before layer {self.min_layer}"
        if not fired and self.max_layer is not None and layer >= self.max_layer:
            return f"; every text leaves at layer {self.max_layer}"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object saved with a model: its name, its own parameters, and the common ones that are set."""
        common = [field for field in dataclasses.fields(CommonParameters) if getattr(self, field.name) != field.default]
        values = {field.name: getattr(self, field.name) for field in (*own_fields(self), *common)}
        return {"name": self.name} | {name: _plain(value) for name, value in values.items()}

    def tensors(self) -> dict[str, Array]:
        """Return the learned weights by name, as numpy arrays; none for a rule that learns nothing.

        Those of a learned score of tokens are called `tokens`, those of skip gates `gates`.
        """
        parts = {"tokens": self.tokens, "gates": self.gates}
        return {name: part.weights for name, part in parts.items() if part is not None and part.weights is not None}

    def with_tensors(self, tensors: Mapping[str, ArrayLike]) -> Self:
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


def _plain(value: Any) -> Any:
    if isinstance(value, TokenSchedule | SkipGates):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value


def own_fields(policy: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a policy or policy class that are parameters of its own rule, not common to all."""
    common = {field.name for field in dataclasses.fields(CommonParameters)}
    return [field for field in dataclasses.fields(policy) if field.name not in common and field.compare]
