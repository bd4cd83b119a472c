"""Settings between a grid's: two rules are compared fairly when both have settings wherever texts may leave.

Thresholds of different rules lie on different scales, and how much of a scale matters differs from model to model: a
grid that is fine for one rule steps over half of the layers for another, whose curve is a straight line there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np

from elbert.exits import ExitPolicy
from elbert.results import LayerOutputs
from elbert.scoring.curves import replay_all

# How often the stretch between two settings is halved at most, and how many settings a depth of M is worth.
_ROUNDS = 6
_STEPS = 12


def refined(policies: Sequence[ExitPolicy], outputs: LayerOutputs) -> list[ExitPolicy]:
    """Return the settings with further ones wherever two neighbours are over a twelfth of the depth apart.

    Neighbours differ in nothing but one number, such as a threshold; between them comes its mean, and again. What is
    looked at is the mean exit layer alone, no label, so settings are not chosen by what they score.

    Args:
        policies: grids, of any rules; those without a number that differs stay as they are.
        outputs: a full-depth recording of texts like those to be swept, or of these.

    Returns:
        The settings given, then those between them.
    """
    depths = _depths(policies, outputs)
    gap = outputs.probs.shape[1] / _STEPS
    for _ in range(_ROUNDS):
        between = [
            middle
            for line in _lines(list(depths))
            for low, high in pairwise(line)
            if abs(depths[low] - depths[high]) > gap and (middle := _between(low, high)) not in depths
        ]
        if not between:
            break
        depths |= _depths(between, outputs)
    return list(depths)


def _depths(policies: Sequence[ExitPolicy], outputs: LayerOutputs) -> dict[ExitPolicy, float]:
    exits = replay_all(policies, outputs).exit_layer
    return dict(zip(policies, exits.mean(1, dtype=np.float64).tolist(), strict=True))


def _lines(policies: Sequence[ExitPolicy]) -> list[list[ExitPolicy]]:
    """Return settings that differ in one number alone, in its order."""
    number = {kind: _number([each for each in policies if type(each) is kind]) for kind in set(map(type, policies))}
    lines = defaultdict(list)
    for policy in policies:
        name = number[type(policy)]
        if name is not None:
            rest = tuple(_value(policy, each.name) for each in fields(policy) if each.compare and each.name != name)
            lines[type(policy), rest].append(policy)
    return [sorted(line, key=lambda each: _value(each, str(number[type(each)]))) for line in lines.values()]


def _number(policies: Sequence[ExitPolicy]) -> str | None:
    """Return the first field that holds different fractions; None where there is none."""
    names = [each.name for each in fields(policies[0]) if each.compare]
    values = {name: {_value(policy, name) for policy in policies} for name in names}
    return next((name for name in names if len(values[name]) > 1 and {type(v) for v in values[name]} == {float}), None)


def _between(low: ExitPolicy, high: ExitPolicy) -> ExitPolicy:
    name = str(_number([low, high]))
    return replace(low, **{name: (_value(low, name) + _value(high, name)) / 2})


def _value(policy: ExitPolicy, name: str) -> Any:
    return getattr(policy, name)
