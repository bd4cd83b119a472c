"""Parameters of a policy as data: default, allowed range, one line of help.

One description serves the check of every value, the error line, `elbert policies` and the documentation. Knows nothing
of tensors or exits.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from elbert.errors import UsageError

SPEC = "elbert.spec"

# Most layers a count may name: far more than any encoder has, and a window of so many outputs still fits in memory.
_MOST_LAYERS = 1000


@dataclass(frozen=True)
class Spec:
    """What one parameter may be.

    Attributes:
        about: one line for people, without a full stop.
        allowed: the allowed values in words, as they stand in an error line.
        read: returns the value in its own type, or raises ValueError where it is not allowed.
        of_layers: whether it names a layer or counts them, so that a model may have too few for it.
    """

    about: str
    allowed: str
    read: Callable[[Any], Any]
    of_layers: bool = False


def number(
    default: float | None, about: str, *, low: float = 0.0, high: float = math.inf, of_layers: bool = False
) -> Any:
    """Describe a float field in [low, high]; where the default is None, None is allowed and means off."""
    allowed = f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a number of {low:g} or more"

    def read(value: Any) -> float | None:
        return None if value is None and default is None else _real(value, low, high)

    spec = Spec(about, allowed + (", or none (off)" if default is None else ""), read, of_layers)
    return dataclasses.field(default=default, metadata={SPEC: spec})


def count(default: int | None, about: str, *, low: int = 1, may_be_off: bool = False) -> Any:
    """Describe an int field that counts layers, from `low` to 1000; with `may_be_off`, 0 and None both mean None."""
    allowed = f"a whole number from {low} to {_MOST_LAYERS}" + (", or 0 (off)" if may_be_off else "")

    def read(value: Any) -> int | None:
        if may_be_off and (value is None or (not isinstance(value, bool) and value == 0)):
            return None
        if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= _MOST_LAYERS:
            raise ValueError(value)
        return int(value)

    return dataclasses.field(default=default, metadata={SPEC: Spec(about, allowed, read, of_layers=True)})


def switch(default: bool, about: str) -> Any:
    """Describe a bool field."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(value)
        return value

    return dataclasses.field(default=default, metadata={SPEC: Spec(about, "true or false", read)})


def choice(default: str, about: str, *, choices: Iterable[str]) -> Any:
    """Describe a str field that is one of `choices`."""
    known = tuple(choices)

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(value)
        return value

    return dataclasses.field(default=default, metadata={SPEC: Spec(about, " | ".join(known), read)})


def per_layer(about: str) -> Any:
    """Describe an optional field of one positive number per layer, kept as a tuple; None means not used."""

    def read(value: Any) -> tuple[float, ...] | None:
        if value is None:
            return None
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ValueError(value)
        numbers = tuple(_real(each, 0.0, math.inf) for each in value)
        if not numbers or min(numbers) <= 0:
            raise ValueError(value)
        return numbers

    spec = Spec(about, "a list with one number above 0 per layer, or none", read)
    return dataclasses.field(default=None, metadata={SPEC: spec})


def fitting(counts: Iterable[int], num_layers: int) -> list[int]:
    """Return the counts of layers below `num_layers`, for a grid; the smallest where none is."""
    known = sorted(counts)
    return [value for value in known if value < num_layers] or known[:1]


def specs(policy: Any) -> dict[str, Spec]:
    """Return name -> description of every described field of a policy or policy class."""
    return {field.name: field.metadata[SPEC] for field in dataclasses.fields(policy) if SPEC in field.metadata}


def validate(policy: Any) -> None:
    """Bring every described field of a frozen policy into its own type.

    Raises:
        UsageError: a value is not allowed; the line holds the value and what is allowed.
    """
    for name, spec in specs(policy).items():
        value = getattr(policy, name)
        try:
            object.__setattr__(policy, name, spec.read(value))
        except ValueError:
            line = (
                f"exit policy {policy.name!r}: {name} is {reprlib.repr(value)}; allowed: {spec.allowed} ({spec.about})"
            )
            raise UsageError(line) from None


def _real(value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(value)
    try:
        found = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        raise ValueError(value) from None
    if not math.isfinite(found) or not low <= found <= high:
        raise ValueError(value)
    return found
