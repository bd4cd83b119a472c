"""What the settings of a run are: a frozen dataclass, to and from JSON, that says what is out of range."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from elbert.errors import UsageError, did_you_mean

# No count is larger: beyond it torch's and transformers' own integers overflow.
MOST = 2**31 - 1


@dataclass(frozen=True)
class Settings:
    """Base of the settings of a run.

    Attributes:
        about: what is said before a setting's name, for messages.
    """

    about: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return what every setting is when nothing is said, as JSON-ready values.

        A run goes on with these for what it was started without, so a new setting's default is what was done before it.
        """
        return cls().to_dict()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make settings from a dictionary; what it leaves out keeps its default.

        Raises:
            UsageError: an unknown key (the message names the closest), or a value of the wrong type or range.
        """
        hints = typing.get_type_hints(cls)
        del hints["about"]
        checked = {}
        for key, value in values.items():
            if key not in hints:
                raise UsageError(f"unknown {cls.about} {key!r}{did_you_mean(key, hints)}")
            if not _fits(value, hints[key]):
                raise UsageError(f"{cls.about} {key} is {value!r}; allowed: {_type_name(hints[key])}")
            checked[key] = float(value) if type(value) is int and float in _members(hints[key]) else value
        return cls(**checked)

    def check(self, *names: str, low: float = -math.inf, high: float = math.inf) -> None:
        """Check the range of some settings; those that are None are not set.

        Raises:
            UsageError: one is below `low` or above `high`.
        """
        for name in names:
            value = getattr(self, name)
            if value is not None and not (low <= value <= high and math.isfinite(value)):
                allowed = f"at least {low:g}" if high in (math.inf, MOST) else f"{low:g} to {high:g}"
                allowed += " and finite" if not math.isfinite(value) else ""
                allowed += f" and at most {MOST}" if value > MOST == high else ""
                raise UsageError(f"{self.about} {name} is {value}; allowed: {allowed}")

    def check_positive(self, *names: str) -> None:
        """Check settings that may come as near to 0 as one likes.

        Raises:
            UsageError: one is 0 or less.
        """
        for name in names:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{self.about} {name} is {value}; allowed: more than 0, and finite")

    def check_choice(self, **allowed: typing.Iterable[str]) -> None:
        """Check settings that are one of a few words.

        Raises:
            UsageError: one is another word; the message names the closest.
        """
        for name, words in allowed.items():
            value = getattr(self, name)
            if value is not None and value not in words:
                raise UsageError(f"unknown {name} {value!r}{did_you_mean(str(value), words)}")


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    kinds = tuple(typing.get_origin(member) or member for member in _members(hint))
    if isinstance(value, bool):  # which Python counts as a whole number
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def _type_name(hint: Any) -> str:
    return " or ".join(
        "null" if member is types.NoneType else str(getattr(member, "__name__", member)) for member in _members(hint)
    )
