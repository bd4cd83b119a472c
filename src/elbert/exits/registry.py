"""All policies by name. Built-in and third-party policies enter through the same `register`.

A third party names its policy class under the entry-point group `elbert.exits`; it is loaded at the first look-up.
"""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from elbert.errors import UsageError, did_you_mean
from elbert.exits.bandit import Bandit
from elbert.exits.base import ExitPolicy
from elbert.exits.beem import Beem
from elbert.exits.budget import Budget
from elbert.exits.cap import Cap
from elbert.exits.certainty import Certainty
from elbert.exits.combine import AllOf, AnyOf
from elbert.exits.consistent import Consistent
from elbert.exits.elbert import Elbert
from elbert.exits.energy import Energy
from elbert.exits.entropy import Entropy
from elbert.exits.epee import Epee
from elbert.exits.f_pabee import FPabee
from elbert.exits.fixed import Fixed
from elbert.exits.full import Full
from elbert.exits.halting import Halting
from elbert.exits.max_prob import MaxProb
from elbert.exits.past_future import PastFuture
from elbert.exits.patience import Patience
from elbert.exits.pcee import Pcee
from elbert.exits.predicted_depth import PredictedDepth
from elbert.exits.prototype import Prototype
from elbert.exits.q_exit import QExit
from elbert.exits.right_tool import RightTool
from elbert.exits.saturation import Saturation

ENTRY_POINT_GROUP = "elbert.exits"

BUILT_IN: tuple[type[ExitPolicy], ...] = (
    Elbert,
    Entropy,
    MaxProb,
    Patience,
    Pcee,
    FPabee,
    Epee,
    Beem,
    Energy,
    Cap,
    Saturation,
    Certainty,
    QExit,
    Halting,
    RightTool,
    PastFuture,
    Consistent,
    Prototype,
    PredictedDepth,
    Budget,
    Bandit,
    AnyOf,
    AllOf,
    Fixed,
    Full,
)

_policies: dict[str, type[ExitPolicy]] = {}


def register(policy: type[ExitPolicy]) -> type[ExitPolicy]:
    """Make a policy known under its `name`; returns it, so it serves as a decorator too.

    Raises:
        UsageError: not a policy class, or another class has that name.
    """
    if not (isinstance(policy, type) and issubclass(policy, ExitPolicy)):
        raise UsageError(f"cannot register {policy!r} as an exit policy; allowed: a subclass of ExitPolicy")
    known = _policies.setdefault(policy.name, policy)
    if known is not policy:
        raise UsageError(f"exit policy name {policy.name!r} is taken by {known.__module__}; choose another name")
    return policy


def names() -> list[str]:
    """Return the name of every policy: built-in first, then third-party."""
    _load()
    return list(_policies)


def get(name: str) -> type[ExitPolicy]:
    """Return the policy class called `name`.

    Raises:
        UsageError: unknown; the line names the closest.
    """
    _load()
    if not isinstance(name, str) or name not in _policies:
        raise UsageError(f"exit policy {reprlib.repr(name)} is unknown{did_you_mean(str(name), _policies)}")
    return _policies[name]


def build(name: str, parameters: Mapping[str, Any]) -> ExitPolicy:
    """Return the policy `name` with exactly these parameters; those left out take their defaults.

    Raises:
        UsageError: unknown name or parameter (the line names the closest), or a value out of range.
    """
    policy = get(name)
    known = [field.name for field in fields(policy) if field.compare]
    for key in parameters:
        if key not in known:
            raise UsageError(f"exit policy {name!r} has no parameter {reprlib.repr(key)}{did_you_mean(key, known)}")
    return policy(**parameters)


def make(name: str, **overrides: Any) -> ExitPolicy:
    """Return the policy `name`, its defaults overridden by every override that is not None.

    For command lines, where None means "not given": `make("elbert", threshold=0.1, window=None)`.

    Raises:
        UsageError: as `build`.
    """
    return build(name, {key: value for key, value in overrides.items() if value is not None})


@cache
def _load() -> None:
    for policy in BUILT_IN:
        register(policy)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        _load_third_party(point)


def _load_third_party(point: EntryPoint) -> None:
    try:
        register(point.load())
    except (ImportError, AttributeError, UsageError) as error:  # one broken add-on must not take the others with it
        warnings.warn(
            f"exit policy {point.name!r} ({point.value}) was not loaded: {error}", RuntimeWarning, stacklevel=2
        )
