"""Which policies to try, and in which order, before any text has been seen.

Testing one policy after another, from safe to fast, until the first that fails costs nothing for the number of
policies; but the order may not come from the texts it is tested on. A path is such an order, written down in advance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from elbert.exits import ExitPolicy, make
from elbert.exits.between import between, number_between
from elbert.exits.elbert import Elbert
from elbert.exits.gates import Shortcut, shortcut_field
from elbert.exits.words import GRID, with_words
from elbert.tasks import REGRESSION, Task

# Thresholds of ELBERT's path, and from which one on the window spans which share of the layers. Threshold and window
# loosen together, so that a text leaves no later under one policy than under the one before, in all but rare cases.
_THRESHOLDS = tuple(float(f"{value:.3g}") for value in np.geomspace(0.0005, 1.0, 48))
_WINDOWS = ((0.001, 5 / 6), (0.003, 2 / 3), (0.01, 1 / 2), (0.05, 5 / 12), (0.15, 1 / 3), (0.3, 1 / 4))
_TOLERANCES = tuple(float(f"{value:.2g}") for value in np.geomspace(0.002, 2.0, 31))

# Where settings are put between two of a path that differ in one number: a grid's stretches are cut in four, and the
# last one, at whose end every text goes at once, in ever smaller parts. There lie all exits that are sure of nothing,
# as those of two classes may be whose entropies are all near 1. How deep the texts run could tell which of these
# settings are needed, but a path may not come from the texts it is tested on.
_QUARTERS = (0.25, 0.5, 0.75)
_NEARER = tuple(1 - 0.5 ** (step / 2) for step in range(1, 17))

# Where the model has a layer 0, its threshold falls along a path from 1, at which nobody leaves there: slowly at first,
# for what is sure to layer 0 is right more often than its probability says, and to 0.6 at the end.
_WORDS_FALL, _WORDS_BEND, _WORDS_ALONE = 0.4, 1.5, 24
# Such a path is tested at most of the level. The rest is for two others, in case one of the two is no good: the exits
# without layer 0, and layer 0 where hardly anybody leaves later.
_TOGETHER, _APART = 0.9, 0.05
# Thresholds of layer 0 that are tried with every policy of a family without an order: the careful ones, for an order
# that is learned is the worse for every policy in it.
_WORDS = (None, *GRID[:4])


class Sequence(NamedTuple):
    """A path of its own.

    Attributes:
        share: of the level at which it is tested; those of all sequences add up to 1.
        places: of its policies, from safe to fast.
    """

    share: float
    places: range


@dataclass(frozen=True, slots=True)
class Path:
    """Policies to try.

    Attributes:
        policies: all of them.
        sequences: in which orders they are tested; none where no order is good enough to test along, so that one has to
            be learned from texts put aside.
    """

    policies: tuple[ExitPolicy, ...]
    sequences: tuple[Sequence, ...]


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
        words: the model has a layer 0, whose threshold loosens with the policies; where they have no order, several
            are tried with each of them.
    """
    kind, tensors, values = type(policy), policy.tensors(), not task.has_classes
    shares: tuple[float, ...] = ()  # ELBERT's own path is fine enough but for its end
    if kind is Elbert:
        policies = _over_values(num_layers) if values else _elbert(num_layers, nothing=nothing)
        # Where no window fits, as over the values of one or two layers, there is full depth alone.
        policies, ordered = policies or (make("full"),), True
    else:
        grid = kind.grid(num_layers, 1 if values else num_labels)
        policies = tuple(each.with_tensors(tensors) if tensors else each for each in grid)[::-1]
        ordered, shares = _varying(policies) <= 1, _QUARTERS
    if not ordered:
        return Path(tuple(with_words(policies, _WORDS)) if words else policies, ())
    places, policies = zip(*_finer(policies, shares), strict=True)
    return _with_words(policies, places) if words else Path(policies, (Sequence(1.0, range(len(policies))),))


def with_shortcuts(tried: Path, shortcuts: tuple[Shortcut | None, ...]) -> Path:
    """Return a path in which every policy is tried with every schedule of tokens and with every threshold of gates.

    Where it has sequences, each shortcut has them all for itself, at an equal share of the level: which ones are any
    good is not known in advance, and one that is bad may not end the sequence of another.

    Args:
        tried: policies without a shortcut.
        shortcuts: None for all tokens through all layers.
    """
    steps = len(tried.policies)
    policies = (dataclasses.replace(each, **shortcut_field(way)) for way in shortcuts for each in tried.policies)
    sequences = (
        Sequence(each.share / len(shortcuts), range(each.places.start + begin, each.places.stop + begin))
        for begin in range(0, steps * len(shortcuts), steps)
        for each in tried.sequences
    )
    return Path(tuple(policies), tuple(sequences))


def _finer(policies: tuple[ExitPolicy, ...], shares: tuple[float, ...]) -> Iterator[tuple[float, ExitPolicy]]:
    """Yield a path with settings between those given, each with its place among them, from 0 on.

    Args:
        policies: from safe to fast.
        shares: of the stretch from one to the next, where settings are put; in the last they are `_NEARER`.
    """
    yield 0.0, policies[0]
    for place, (safer, faster) in enumerate(pairwise(policies), start=1):
        if (number := number_between(safer, faster)) is not None:
            for share in _NEARER if place == len(policies) - 1 else shares:
                yield place - 1 + share, between(safer, faster, number, share)
        yield place, faster


def _with_words(policies: tuple[ExitPolicy, ...], places: ArrayLike) -> Path:
    """Return an ordered path with a layer 0: both together, the exits alone, layer 0 alone.

    Args:
        policies: the exits' own path.
        places: of each along it, from 0 on; layer 0's threshold falls with them.
    """
    steps = len(policies)
    pairs = zip(policies, _falling(places), strict=True)
    together = tuple(dataclasses.replace(each, words=threshold) for each, threshold in pairs)
    thresholds = _falling(range(_WORDS_ALONE))[1:]
    alone = tuple(dataclasses.replace(policies[0], words=threshold) for threshold in thresholds)
    sequences = (
        Sequence(_TOGETHER, range(steps)),
        Sequence(_APART, range(steps, 2 * steps)),
        Sequence(_APART, range(2 * steps, 2 * steps + len(alone))),
    )
    return Path((*together, *policies, *alone), sequences)


def _falling(places: ArrayLike) -> tuple[float | None, ...]:
    """Return layer 0's threshold at every place along a path, from 0 on; None at the first."""
    along = np.asarray(places, float)
    ways = (along[1:] / max(along[-1], 1)) ** _WORDS_BEND
    return (None, *(float(f"{1 - _WORDS_FALL * way:.3g}") for way in ways))


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
