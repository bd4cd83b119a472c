"""Skip gates: which layers a row leaves out, by a learned gate of each, beside where it exits.

Source: SmartBERT (IJCAI 2023, arXiv 2303.09266): a gate a layer looks at the state before it, and with half or more the
layer is skipped, its exit too. What a gate is made of could not be had; a linear unit over the mean of the row's states
is our reading. The first layer always runs, for before it a row is nothing but its words, and so does the last, whose
exit answers whoever is left.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import sigmoid
from elbert.errors import UsageError, did_you_mean
from elbert.exits.parameters import SPEC, Spec
from elbert.exits.tokens import TokenSchedule

Integers = NDArray[np.int64]

# What stands for the gates that a model was trained with.
AUTO = "auto"

_UNTRAINED = "gates were never trained: train with scheme skip_gates, or leave gates away"
_ALLOWED = 'a number from 0 to 1, an object such as {"threshold": 0.5}, or none (off)'


@dataclass(frozen=True, slots=True)
class SkipGates:
    """A gate before every layer i from 2 to M - 1, which a row skips where g_i >= threshold.

    g_i = σ(w_i · h + b_i), h the mean of the row's states.

    Attributes:
        threshold: the paper's is 0.5; at 1 hardly any layer is skipped, at 0 all are.
        weights: [M - 2, H + 1], a row (w, b) for every gate; None where there are none. Not part of `==`.

    Raises:
        UsageError: the threshold is no number from 0 to 1.
    """

    threshold: float = 0.5
    weights: NDArray[np.float32] | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the threshold."""
        value = self.threshold
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UsageError(f"gates: threshold is {reprlib.repr(value)}; allowed: a number from 0 to 1")
        object.__setattr__(self, "threshold", float(value))

    @classmethod
    def from_value(cls, value: Any) -> SkipGates:
        """Return the gates that `to_dict` described, or those of a threshold.

        Raises:
            UsageError: it is neither, or a value is not allowed.
        """
        if not isinstance(value, Mapping):
            return cls(value)
        for key in value:
            if key != "threshold":
                raise UsageError(f"gates have no {reprlib.repr(key)}{did_you_mean(str(key), ['threshold'])}")
        return cls(**value)

    def __str__(self) -> str:
        """Return the threshold, as flags name it."""
        return f"{self.threshold:g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, without the weights."""
        return {"threshold": self.threshold}

    def with_weights(self, weights: ArrayLike) -> SkipGates:
        """Return the gates with weights.

        Raises:
            UsageError: these are no [gates, units + 1] finite numbers.
        """
        given = np.array(weights, np.float32)
        if given.ndim != 2 or given.shape[1] < 2 or not np.isfinite(given).all():
            raise UsageError(f"gates were given weights of shape {given.shape}; allowed: [layers - 2, units + 1]")
        return dataclasses.replace(self, weights=given)

    def check_fits(self, num_layers: int, hidden_size: int) -> None:
        """Raise UsageError where there are no weights, or those of a model of another size."""
        wanted = (max(num_layers - 2, 0), hidden_size + 1)
        if self.weights is None:
            raise UsageError(_UNTRAINED)
        if self.weights.shape != wanted:
            raise UsageError(
                f"the gates have weights of shape {self.weights.shape}, for this model they are {list(wanted)}: train "
                "them with scheme skip_gates on it"
            )

    def said(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what every gate says of rows, [rows, M - 2] in 0 to 1, of the means [rows, H] of their states."""
        assert self.weights is not None, "only fitted gates are asked"
        scores = np.einsum("rh,gh->rg", states, self.weights[:, :-1]) + self.weights[:, -1]
        return np.asarray(sigmoid(scores), np.float32)

    def following(self, states: NDArray[np.float32], layer: Integers) -> Integers:
        """Return the layer, 1-based, that each row runs next, [rows]; above M for one that has run the last.

        A state stays as it is while layers are skipped, so all gates ahead may be asked at once.

        Args:
            states: [rows, H] means of the rows' states.
            layer: [rows] the layer that each has just run.
        """
        gates = np.arange(2, len(self.said(states[:0]).T) + 2)  # the layer that each gate stands before
        skips = (self.said(states) >= self.threshold) & (gates > layer[:, None])
        runs = np.concatenate([~skips & (gates > layer[:, None]), np.ones((len(states), 1), bool)], axis=1)
        return np.asarray(np.maximum(runs.argmax(1) + 2, layer + 1))


# What a text leaves out on its way to its exit, of which a policy has one at most: tokens, or layers.
Shortcut: TypeAlias = TokenSchedule | SkipGates


def shortcut_field(shortcut: Shortcut | None) -> dict[str, Any]:
    """Return a shortcut under its name, `tokens` or `gates`, as a policy and `record` take it; nothing for None."""
    if shortcut is None:
        return {}
    return {"gates" if isinstance(shortcut, SkipGates) else "tokens": shortcut}


def asked_gates(asked: Any, trained: SkipGates | None) -> tuple[SkipGates, ...]:
    """Return the gates to try beside running every layer, each once.

    Args:
        asked: None for none, `auto` for those of the model if it has any, a threshold, gates as such, or several.
        trained: the model's; None where it has none.

    Raises:
        UsageError: it is none of that, or the model has no gates.
    """
    if asked is None:
        return ()
    if isinstance(asked, str) and asked == AUTO:
        return () if trained is None else (trained,)
    several = asked if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
    read = [each if isinstance(each, SkipGates) else SkipGates.from_value(each) for each in several]
    if read and trained is None:
        raise UsageError(_UNTRAINED)
    return tuple(dict.fromkeys(read))


def gates(about: str) -> Any:
    """Describe a field of a policy that holds gates, given as such, as their JSON or threshold; None means off."""

    def read(value: Any) -> SkipGates | None:
        return value if value is None or isinstance(value, SkipGates) else SkipGates.from_value(value)

    return dataclasses.field(default=None, metadata={SPEC: Spec(about, _ALLOWED, read)})
