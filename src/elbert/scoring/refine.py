"""Settings between a grid's: two rules are compared fairly when both have settings wherever texts may leave.

Thresholds of different rules lie on different scales, and how much of a scale matters differs from model to model: a
grid that is fine for one rule steps over half of the layers for another, whose curve is a straight line there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from elbert.exits import ExitPolicy
from elbert.exits.between import between, settings
from elbert.results import LayerOutputs
from elbert.scoring.curves import LayerZeroCost, Replays, replay_all, uncounted

# How often the stretch between two settings is halved at most, and how many settings a depth of M is worth.
_ROUNDS = 6
_STEPS = 12


def refined(
    policies: Sequence[ExitPolicy],
    outputs: LayerOutputs,
    gap: float | None = None,
    layer_0_cost: LayerZeroCost = uncounted,
) -> Replays:
    """Replay settings, and further ones wherever two neighbours are over `gap` apart in mean exit layer.

    Neighbours differ in nothing but one number, such as a threshold; between them comes its mean, and again. What is
    looked at is the mean exit layer alone, no label, so settings are not chosen by what they score.

    Args:
        policies: grids, of any rules; those without a number that differs stay as they are.
        outputs: a full-depth recording of texts like those to be swept, or of these.
        gap: layers; None takes a twelfth of the depth.
        layer_0_cost: what layer 0 takes of every text under each policy, as `replay_all` takes it.

    Returns:
        The replays of the settings given, then of those between them, over these texts.
    """
    replays = replay_all(policies, outputs, layer_0_cost)
    most = outputs.probs.shape[1] / _STEPS if gap is None else gap
    for _ in range(_ROUNDS):
        depths = dict(zip(replays.policies, replays.exit_layer.mean(1, dtype=np.float64).tolist(), strict=True))
        more = [
            middle
            for number, line in _lines(replays.policies)
            for low, high in pairwise(line)
            if abs(depths[low] - depths[high]) > most and (middle := between(low, high, number)) not in depths
        ]
        if not more:
            break
        replays = _with_more(replays, replay_all(more, outputs, layer_0_cost))
    return replays


def _with_more(replays: Replays, more: Replays) -> Replays:
    """Return replays with those of further settings over the same texts."""
    return replace(
        replays,
        policies=(*replays.policies, *more.policies),
        exit_layer=np.concatenate([replays.exit_layer, more.exit_layer]),
        layer_0_cost=np.concatenate([replays.layer_0_cost, more.layer_0_cost]),
        ran=None if replays.ran is None or more.ran is None else np.concatenate([replays.ran, more.ran]),
    )


def _lines(policies: Sequence[ExitPolicy]) -> list[tuple[str, list[ExitPolicy]]]:
    """Return the name of a number, and settings that differ in it alone, in its order; for every such line."""
    known = {policy: settings(policy) for policy in policies}
    kinds = defaultdict(list)
    for policy, values in known.items():
        kinds[type(policy), tuple(values)].append(policy)
    lines = defaultdict(list)
    for (_, names), alike in kinds.items():
        for number in (name for name in names if _differs([known[each][name] for each in alike])):
            for policy in alike:
                others = tuple(value for name, value in known[policy].items() if name != number)
                lines[number, others].append(policy)
    return [(number, sorted(line, key=lambda each: known[each][number])) for (number, _), line in lines.items()]


def _differs(values: Sequence[object]) -> bool:
    """Return whether these are different fractions."""
    return {type(value) for value in values} == {float} and len(set(values)) > 1
