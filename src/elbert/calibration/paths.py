"""Which policies to try, and in which order, before any text has been seen.

Testing one policy after another, from safe to fast, until the first that fails costs nothing for the number of
policies; but the order may not come from the texts it is tested on. A path is such an order, written down in advance.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from elbert.exits import ExitPolicy, make
from elbert.exits.elbert import Elbert
from elbert.tasks import REGRESSION, Task

# Thresholds of ELBERT's path, and from which one on the window spans which share of the layers. Threshold and window
# loosen together, so that a text leaves no later under one policy than under the one before, in all but rare cases.
_THRESHOLDS = tuple(float(f"{value:.3g}") for value in np.geomspace(0.0005, 1.0, 48))
_WINDOWS = ((0.001, 5 / 6), (0.003, 2 / 3), (0.01, 1 / 2), (0.05, 5 / 12), (0.15, 1 / 3), (0.3, 1 / 4))
_TOLERANCES = tuple(float(f"{value:.2g}") for value in np.geomspace(0.002, 2.0, 31))

# Thresholds of layer 0 that are tried with every policy where the model has one.
_WORDS = (None, 0.995, 0.99, 0.98, 0.97, 0.95, 0.93, 0.9, 0.85, 0.8, 0.7)


@dataclass(frozen=True, slots=True)
class Path:
    """Policies to try.

    Attributes:
        policies: from safe to fast where `ordered`, else in any order.
        ordered: whether the order is good enough to test along; otherwise it has to be learned from texts put aside.
    """

    policies: tuple[ExitPolicy, ...]
    ordered: bool


def path(
    policy: ExitPolicy, num_layers: int, num_labels: int, task: Task, *, nothing: bool = False, words: bool = False
) -> Path:
    """Return the policies of a family.

    Args:
        policy: one of it, with the weights that all take where it learns any.
        num_layers: M.
        num_labels: C.
        task: of the model.
        nothing: no drop at all is allowed. Then a policy passes only if its exits are better than full depth, so the
            path starts where texts leave early enough to differ: at windows of at most M / 2.
        words: the model has a layer 0, whose thresholds are tried with every policy; no order of such pairs is good
            enough to test along.
    """
    if words:
        alone = path(policy, num_layers, num_labels, task, nothing=nothing).policies
        pairs = (dataclasses.replace(each, words=threshold) for each in alone for threshold in _WORDS)
        return Path(tuple(pairs), ordered=False)
    kind, tensors, values = type(policy), policy.tensors(), not task.has_classes
    if kind is Elbert:
        policies = _over_values(num_layers) if values else _elbert(num_layers, nothing=nothing)
        # Where no window fits, as over the values of one or two layers, there is full depth alone.
        return Path(policies or (make("full"),), ordered=True)
    grid = kind.grid(num_layers, 1 if values else num_labels)
    policies = tuple(each.with_tensors(tensors) if tensors else each for each in grid)[::-1]
    return Path(policies, ordered=_varying(policies) <= 1)


def _over_values(num_layers: int) -> tuple[ExitPolicy, ...]:
    windows = [_window(share, num_layers) for share in np.linspace(5 / 6, 1 / 4, len(_TOLERANCES))]
    pairs = zip(windows, _TOLERANCES, strict=True)
    return tuple(
        Elbert(0.0, window, REGRESSION.criterion, tolerance) for window, tolerance in pairs if window is not None
    )


def _elbert(num_layers: int, *, nothing: bool) -> tuple[ExitPolicy, ...]:
    steps = []
    for threshold in _THRESHOLDS:
        share = max((at for at in _WINDOWS if at[0] <= threshold), default=None)
        if nothing and (share is None or share[1] > 1 / 2):
            continue
        steps.append(Elbert(threshold, None if share is None else _window(share[1], num_layers)))
    return tuple(steps)


def _window(share: float, num_layers: int) -> int | None:
    """Return the window that spans `share` of the layers; None where the model is too shallow for one."""
    return min(max(round(share * num_layers), 2), num_layers - 1) if num_layers > 2 else None


def _varying(policies: tuple[ExitPolicy, ...]) -> int:
    """Return how many parameters differ between the policies."""
    fields = [field for field in dataclasses.fields(policies[0]) if field.compare]
    return sum(len({getattr(policy, field.name) for policy in policies}) > 1 for field in fields)
