"""Learn then test: the fastest of many policies whose promise a test confirms. P policies, N texts, M exits.

The chance that any policy that passed breaks its promise is at most `level`, whatever the texts' distribution, if the
texts are drawn independently from what the policy will meet.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.calibration.losses import Losses
from elbert.calibration.paired import paired_p_value, score_statistic
from elbert.calibration.parts import Parts
from elbert.calibration.statistics import betting_p_value, binomial_p_value, hoeffding_bentkus_p_value
from elbert.errors import UsageError, did_you_mean

Array = NDArray[np.float64]

BOUNDS = ("paired", "binomial", "betting", "hoeffding-bentkus")
CORRECTIONS = ("fixed-sequence", "bonferroni")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search came to.

    Attributes:
        index: the policy, or None where none passed.
        p_value: of that policy; of the first one tested where none passed.
        tested: policies tested.
        passed: policies that passed.
    """

    index: int | None
    p_value: float
    tested: int
    passed: tuple[int, ...]


def p_value(differences: Array, max_drop: float, level: float, bound: str) -> float:
    """Return a p-value against H0: the mean difference is `max_drop` or more.

    Args:
        differences: [N] in [-1, 1]: whole numbers for `paired`, 0 and 1 for `binomial`. Under `binomial` and
            `hoeffding-bentkus` a gain counts as 0, which keeps them valid and costs power.
        max_drop: in [0, 1).
        level: what it will be compared with.
        bound: one of `BOUNDS`.

    Raises:
        UsageError: an unknown bound.
    """
    n = len(differences)
    if not n:
        return 1.0
    if bound == "paired":
        return paired_p_value(int((differences > 0).sum()), int((differences < 0).sum()), n, max_drop, level)
    if bound == "betting":
        return float(betting_p_value(differences, max_drop))
    if bound not in BOUNDS:
        raise UsageError(f"unknown bound {bound!r}{did_you_mean(bound, BOUNDS)}")
    losses = np.maximum(differences, 0.0)
    if max_drop <= 0:
        return 1.0
    if bound == "binomial":
        return float(binomial_p_value(np.ceil(losses.sum() - 1e-9), n, max_drop))
    return float(hoeffding_bentkus_p_value(losses.mean(), n, max_drop))


def choose(
    exit_layer: NDArray[Any],
    losses: Losses | Parts | Sequence[Parts],
    max_drop: float,
    level: float,
    *,
    order: Sequence[int] | None = None,
    rows: NDArray[Any] | None = None,
    bound: str | None = None,
    correction: str = "fixed-sequence",
    cost: NDArray[Any] | None = None,
) -> Choice:
    """Return the policy with the least mean cost among those whose promise is confirmed.

    Args:
        exit_layer: [P, N], from 1 to M.
        losses: of the texts; or parts of them, each of which must keep the promise: the greatest p-value counts. Of
            each of the P policies where these differ.
        max_drop: the greatest mean difference that is allowed, in [0, 1).
        level: chance of a broken promise that is allowed, in (0, 1).
        order: which policies to test, and for a fixed sequence in which order; must not come from `rows`. None takes
            all, as they stand.
        rows: texts to test on; None takes all.
        bound: one of `BOUNDS`; None takes the losses' own.
        correction: `fixed-sequence` (test at the full level until the first failure) or `bonferroni` (test all, each at
            its share of the level; needs no order).
        cost: [P, N] what a text costs under each policy; None takes the exit layer.

    Raises:
        UsageError: an unknown bound or correction.

    Source: Angelopoulos et al., "Learn then Test", 2110.01052; Jazbec et al., "Fast yet Safe", 2405.20915.
    """
    if correction not in CORRECTIONS:
        raise UsageError(f"unknown correction {correction!r}{did_you_mean(correction, CORRECTIONS)}")
    places = range(len(exit_layer)) if order is None else order
    share = level if correction == "fixed-sequence" else level / max(len(places), 1)
    parts, tried_on = _parts(losses, bound, len(exit_layer)), np.arange(exit_layer.shape[1]) if rows is None else rows
    passed: dict[int, float] = {}
    first, tested = 1.0, 0
    for place in places:
        shown = parts[place].of(exit_layer[place], tried_on)
        value = max(p_value(part.differences, max_drop, share, part.bound) for part in shown)
        first, tested = (value if not tested else first), tested + 1
        if value <= share:
            passed[place] = value
        elif correction == "fixed-sequence":
            break
    if not passed:
        return Choice(None, first, tested, ())
    spent = exit_layer if cost is None else cost
    index = min(passed, key=lambda place: float(spent[place][tried_on].mean()))
    return Choice(index, passed[index], tested, tuple(passed))


def choose_along(
    sequences: Sequence[tuple[float, Sequence[int]]],
    exit_layer: NDArray[Any],
    losses: Losses | Parts | Sequence[Parts],
    max_drop: float,
    level: float,
    *,
    rows: NDArray[Any],
    cost: NDArray[Any] | None = None,
) -> Choice:
    """Return the fastest policy that passes in any of several sequences, each tested at its share of the level.

    Args:
        sequences: the share, and policies in the order in which they are tested. The shares add up to at most 1.
        exit_layer: [P, N], from 0 to M.
        losses: as in `choose`.
        max_drop: as in `choose`.
        level: as in `choose`.
        rows: texts to test on.
        cost: as in `choose`.
    """
    spent = exit_layer if cost is None else cost
    found = [
        choose(exit_layer, losses, max_drop, level * share, order=order, rows=rows, cost=spent)
        for share, order in sequences
    ]
    mean = spent[:, rows].mean(1)
    best = min(found, key=lambda each: math.inf if each.index is None else float(mean[each.index]))
    passed = tuple(place for each in found for place in each.passed)
    return Choice(best.index, best.p_value, sum(each.tested for each in found), passed)


def learned_order(
    exit_layer: NDArray[Any],
    losses: Losses | Parts | Sequence[Parts],
    max_drop: float,
    rows: NDArray[Any],
    *,
    cost: NDArray[Any] | None = None,
) -> list[int]:
    """Return a path from safe to fast, learned on texts that are then not tested on.

    Keeps every policy that no faster one beats in the statistic that speaks for its promise, the costliest first.

    Args:
        exit_layer: [P, N].
        losses: of the texts, or of parts of them, as in `choose`.
        max_drop: as in `choose`.
        rows: the texts to learn from.
        cost: as in `choose`.

    Source: Laufer-Goldenberg et al., "Efficiently Controlling Multiple Risks with Pareto Testing", ICLR 2023.
    """
    mean = (exit_layer if cost is None else cost)[:, rows].mean(1)
    speaks = [
        min(_speaks_for(part.differences, max_drop) for part in parts.of(layers, rows))
        for parts, layers in zip(_parts(losses, None, len(exit_layer)), exit_layer, strict=True)
    ]
    best, kept = -math.inf, []
    for place in np.lexsort((-np.asarray(speaks), mean)).tolist():
        if speaks[place] > best + 1e-12:
            kept.append(place)
            best = speaks[place]
    return kept[::-1]


def _parts(losses: Losses | Parts | Sequence[Parts], bound: str | None, policies: int) -> Sequence[Parts]:
    """Return the parts of each policy."""
    if isinstance(losses, Losses):
        losses = Parts(losses, bound or losses.bound)
    return [losses] * policies if isinstance(losses, Parts) else losses


def _speaks_for(differences: Array, max_drop: float) -> float:
    """Return the statistic of one part of the texts."""
    lost, won = np.maximum(differences, 0).sum(), np.maximum(-differences, 0).sum()
    # Half a text each way: that nothing changed among a few texts doesn't make a policy safer than full depth.
    return float(score_statistic(lost + 0.5, won + 0.5, len(differences) + 1, max_drop))


def texts_needed(max_drop: float, level: float, bound: str) -> int | None:
    """Return how many texts a test needs to be able to pass at all: where leaving early changes no answer.

    For `paired`, `binomial` and `hoeffding-bentkus` this is about log(level) / log(1 − max_drop).

    Args:
        max_drop: in [0, 1).
        level: in (0, 1).
        bound: one of `BOUNDS`.

    Returns:
        The number, or None where no number suffices: with `max_drop` 0 only exits better than full depth can pass.
    """
    if max_drop <= 0:
        return None

    def passes(n: int) -> bool:
        return p_value(np.zeros(n), max_drop, level, bound) <= level

    enough = 1
    while not passes(enough):
        enough *= 2
    return bisect_left(range(enough), True, enough // 2, key=passes)
