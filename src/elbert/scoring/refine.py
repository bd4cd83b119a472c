"""Settings between a grid's: two rules are compared fairly when both have settings wherever texts may leave.

Thresholds of different rules lie on different scales, and how much of a scale matters differs from model to model: a
grid that is fine for one rule steps over half of the layers for another, whose curve is a straight line there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from operator import attrgetter

import numpy as np

from elbert.exits import ExitPolicy
from elbert.exits.between import between
from elbert.results import LayerOutputs
from elbert.scoring.curves import replay_all

# How often the stretch between two settings is halved at most, and how many settings a depth of M is worth.
_ROUNDS = 6
_STEPS = 12


def refined(policies: Sequence[ExitPolicy], outputs: LayerOutputs, gap: float | None = None) -> list[ExitPolicy]:
    """Return the settings with further ones wherever two neighbours are over `gap` apart in mean exit layer.

    Neighbours differ in nothing but one number, such as a threshold; between them comes its mean, and again. What is
    looked at is the mean exit layer alone, no label, so settings are not chosen by what they score.

    Args:
        policies: grids, of any rules; those without a number that differs stay as they are.
        outputs: a full-depth recording of texts like those to be swept, or of these.
        gap: layers; None takes a twelfth of the depth.

    Returns:
        The settings given, then those between them.
    """
    depths = _depths(policies, outputs)
    most = outputs.probs.shape[1] / _STEPS if gap is None else gap
    for _ in range(_ROUNDS):
        more = [
            middle
            for number, line in _lines(list(depths))
            for low, high in pairwise(line)
            if abs(depths[low] - depths[high]) > most and (middle := between(low, high, number)) not in depths
        ]
        if not more:
            break
        depths |= _depths(more, outputs)
    return list(depths)


def _depths(policies: Sequence[ExitPolicy], outputs: LayerOutputs) -> dict[ExitPolicy, float]:
    exits = replay_all(policies, outputs).exit_layer
    return dict(zip(policies, exits.mean(1, dtype=np.float64).tolist(), strict=True))


def _lines(policies: Sequence[ExitPolicy]) -> list[tuple[str, list[ExitPolicy]]]:
    """Return a field that holds a number, and settings that differ in it alone, in its order; for every such line."""
    numbers = {kind: _number([each for each in policies if type(each) is kind]) for kind in set(map(type, policies))}
    lines = defaultdict(list)
    for policy in policies:
        number = numbers[type(policy)]
        if number is not None:
            names = (each.name for each in fields(policy) if each.compare and each.name != number)
            lines[number, type(policy), tuple(getattr(policy, name) for name in names)].append(policy)
    return [(number, sorted(line, key=attrgetter(number))) for (number, *_), line in lines.items()]


def _number(policies: Sequence[ExitPolicy]) -> str | None:
    """Return the first field that holds different fractions; None where there is none."""
    names = [each.name for each in fields(policies[0]) if each.compare]
    values = {name: {getattr(policy, name) for policy in policies} for name in names}
    return next((name for name in names if len(values[name]) > 1 and {type(v) for v in values[name]} == {float}), None)
