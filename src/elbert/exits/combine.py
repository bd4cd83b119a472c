"""Rules put together: leave when any of several would, or when all of them would at once."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elbert.arrays import Array
from elbert.errors import UsageError
from elbert.exits.base import ExitPolicy, Found, State, Sweep
from elbert.exits.entropy import Entropy
from elbert.exits.grids import ENTROPY_GRID
from elbert.exits.parameters import SPEC, Spec
from elbert.exits.patience import Patience
from elbert.results import ExitOutput

# Rules in one policy, combined ones counted too: each is asked about every text at every layer.
_MOST = 16


def _rules(default: tuple[ExitPolicy, ...], about: str) -> Any:
    """Describe a field of two policies or more, given as such or as their JSON."""

    def read(value: Any) -> tuple[ExitPolicy, ...]:
        if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
            raise ValueError(value)
        given = tuple(value)
        if len(given) < 2 or _rules_in(given) > _MOST:  # before anything is made of them, however deep they lie
            raise ValueError(value)
        return tuple(each if isinstance(each, ExitPolicy) else ExitPolicy.from_dict(each) for each in given)

    spec = Spec(about, f"a list of two policies or more, at most {_MOST} with those within, none of which learns", read)
    return dataclasses.field(default=default, metadata={SPEC: spec})


def _rules_in(given: Iterable[Any]) -> int:
    """Return how many rules these are, those within them included; above `_MOST` nobody goes on counting."""
    found, left = 0, list(given)
    while left and found <= _MOST:
        found, each = found + 1, left.pop()
        within = each.get("policies") if isinstance(each, Mapping) else getattr(each, "policies", None)
        left += within if isinstance(within, (list, tuple)) else ()
    return found


@dataclass(frozen=True)
class _Combined(ExitPolicy):
    """Base of the two: the rules, and the memory of all of them side by side."""

    policies: tuple[ExitPolicy, ...] = _rules((Entropy(), Patience()), "the rules, as JSON with their names")

    def __post_init__(self) -> None:
        """Check the rules; raises UsageError."""
        super().__post_init__()
        learned = [policy.name for policy in self.policies if policy.learned]
        if learned:
            raise UsageError(
                f"exit policy {self.name!r}: {learned[0]!r} learns, and weights are kept of whole policies only; "
                "allowed: rules that learn nothing"
            )
        for policy in self.policies:
            of_the_whole = next((name for name, part in policy.around.items() if part is not None), None)
            if of_the_whole:
                raise UsageError(
                    f"exit policy {self.name!r}: {of_the_whole} of {policy.name!r} would change nothing, for no exit "
                    f"is asked about it; set it for {self.name!r} as a whole"
                )
        needs = frozenset[str]().union(*(policy.needs for policy in self.policies))
        object.__setattr__(self, "needs", needs)

    def start(self, rows: int, num_labels: int) -> State:
        """Return the memory of every rule, each name behind the number of its rule."""
        return {
            f"{number}.{name}": values
            for number, policy in enumerate(self.policies)
            for name, values in policy.start(rows, num_labels).items()
        }

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Apply every rule, its own `min_layer` and `max_layer` included."""
        fired: Array = None
        found: Found = {}
        after: State = {}
        for number, policy in enumerate(self.policies):
            prefix = f"{number}."
            own = {name[len(prefix) :]: values for name, values in state.items() if name.startswith(prefix)}
            said, later = policy.decide(own, output, layer)
            leaves = policy.leaves(said, layer)
            fired = leaves if fired is None else self.joined(fired, leaves)
            found[f"{prefix}{policy.name}"] = leaves
            after |= {f"{prefix}{name}": values for name, values in later.items()}
        return {"fired": fired, **found}, after

    @staticmethod
    @abstractmethod
    def joined(first: Array, second: Array) -> Array:
        """Return which rows leave, [rows] bool, by what two rules say of them."""

    def beyond(self, num_layers: int, exits: str = "layers") -> str | None:
        """Return such a line of its own, or of the first rule that has one."""
        lines = (rule.beyond(num_layers, exits) for rule in self.policies)
        return super().beyond(num_layers, exits) or next((line for line in lines if line is not None), None)

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return which rules let the text go."""
        del layer
        verdicts = [(name.partition(".")[2], fired) for name, fired in found.items() if name != "fired"]
        return ", ".join(f"{name} {'leaves' if fired else 'stays'}" for name, fired in verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, with one for every rule in it."""
        return {**super().to_dict(), "policies": [policy.to_dict() for policy in self.policies]}


@dataclass(frozen=True)
class AnyOf(_Combined):
    """Leave at the first layer where one rule or more lets the text go.

    Use it to widen a rule by another: `entropy` or `patience` is `epee`; ELBERT's two stages are of this form.
    """

    name: ClassVar[str] = "any"
    summary: ClassVar[str] = "leave when any of several rules would"
    citation: ClassVar[str] = "no paper: of this form are ELBERT's two stages, and EPEE"

    @staticmethod
    def joined(first: Array, second: Array) -> Array:
        """Return where either leaves."""
        return first | second

    def waits(self, num_layers: int) -> int:
        """Return the first layer at which any rule can fire."""
        return min(policy.soonest(num_layers) for policy in self.policies)

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Entropies from 1 down to 0.001, or patience of half the layers."""
        del num_labels
        patience = Patience(max(num_layers // 2, 1))
        return [cls((Entropy(threshold), patience)) for threshold in ENTROPY_GRID]


@dataclass(frozen=True)
class AllOf(_Combined):
    """Leave at the first layer where every rule lets the text go.

    Use it to narrow a rule: a text that is sure, but only once its label has been confirmed.
    """

    name: ClassVar[str] = "all"
    summary: ClassVar[str] = "leave when all of several rules would at once"
    citation: ClassVar[str] = "no paper"
    sweep: ClassVar[Sweep] = {"policies": [(Entropy(threshold), Patience(1)) for threshold in ENTROPY_GRID]}

    @staticmethod
    def joined(first: Array, second: Array) -> Array:
        """Return where both leave."""
        return first & second

    def waits(self, num_layers: int) -> int:
        """Return the first layer at which all rules can fire."""
        return max(policy.soonest(num_layers) for policy in self.policies)
