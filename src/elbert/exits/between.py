"""Settings between two of a rule that differ in one number alone: what a grid has left out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from elbert.exits.base import ExitPolicy


def number_between(low: ExitPolicy, high: ExitPolicy) -> str | None:
    """Return the name of the fraction in which two settings differ; None where they differ in more, or in no such."""
    names = [each.name for each in fields(low) if each.compare] if type(low) is type(high) else []
    differing = [name for name in names if getattr(low, name) != getattr(high, name)]
    if len(differing) != 1 or not all(type(getattr(each, differing[0])) is float for each in (low, high)):
        return None
    return differing[0]


def between(low: ExitPolicy, high: ExitPolicy, number: str, share: float = 0.5) -> ExitPolicy:
    """Return the setting that lies between two, its number to six digits.

    Args:
        low: the one.
        high: the other; nothing but the number differs.
        number: its name.
        share: how far from `low`, in [0, 1].
    """
    first = getattr(low, number)
    value = first + share * (getattr(high, number) - first)
    changed: dict[str, Any] = {number: float(f"{value:.6g}")}
    return replace(low, **changed)
