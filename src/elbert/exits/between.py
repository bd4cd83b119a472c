"""Settings between two of a rule that differ in one number alone: what a grid has left out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from elbert.exits.base import ExitPolicy

_RULES = "policies"  # the field of a combined policy that holds others


def settings(policy: ExitPolicy) -> dict[str, Any]:
    """Return what a policy is compared by: its kind under no name, its parameters by theirs.

    Those of a rule within a combined one stand behind its place: `policies.0.threshold`.
    """
    names = [each.name for each in fields(policy) if each.compare and each.name != _RULES]
    within = (
        (f"{_RULES}.{place}.{name}", value)
        for place, rule in enumerate(getattr(policy, _RULES, ()))
        for name, value in settings(rule).items()
    )
    return {"": type(policy), **{name: getattr(policy, name) for name in names}, **dict(within)}


def number_between(low: ExitPolicy, high: ExitPolicy) -> str | None:
    """Return the name of the fraction in which two settings differ; None where they differ in more, or in no such."""
    ours, theirs = settings(low), settings(high)
    differing = [name for name in ours | theirs if name not in ours or ours[name] != theirs.get(name)]
    if len(differing) != 1 or not all(type(each.get(differing[0])) is float for each in (ours, theirs)):
        return None
    return differing[0]


def between(low: ExitPolicy, high: ExitPolicy, number: str, share: float = 0.5) -> ExitPolicy:
    """Return the setting that lies between two, its number to six digits.

    Args:
        low: the one.
        high: the other; nothing but the number differs.
        number: its name, as in `settings`.
        share: how far from `low`, in [0, 1].
    """
    first, last = (settings(each)[number] for each in (low, high))
    return _with(low, number, float(f"{first + share * (last - first):.6g}"))


def _with(policy: ExitPolicy, name: str, value: float) -> ExitPolicy:
    changed: dict[str, Any] = {name: value}
    if name.startswith(f"{_RULES}."):
        _, place, inner = name.split(".", 2)
        rules = list(getattr(policy, _RULES))
        rules[int(place)] = _with(rules[int(place)], inner, value)
        changed = {_RULES: tuple(rules)}
    return replace(policy, **changed)
