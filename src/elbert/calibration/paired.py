"""An exact p-value for "the exits give up `max_drop` of accuracy or more", from the texts whose answer changed.

Numbers only: of n texts, `lost` are right at full depth and wrong at their exit, and `won` the other way round. Exact
for every n: no normal approximation, and the two counts may hang together as they like.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.lazy import from_extra

Array = NDArray[np.float64]

# Share of the level spent on the chance that P(won) lies outside its interval; that chance is added to every p-value.
_OUTSIDE = 0.01
# Share of the level to within which the greatest probability is found; added too.
_EXACT_TO = 0.005
# Chance of counts of `won` so far out that they are not summed over; added as well.
_BEYOND = 1e-7
# Intervals the search over P(won) starts from.
_INTERVALS = 24


@lru_cache(maxsize=65_536)
def paired_p_value(lost: int, won: int, n: int, max_drop: float, level: float = 0.1) -> float:
    """Return a p-value against H0: P(lost) − P(won) ≥ max_drop.

    Outcomes are ordered by Tango's score statistic z = (n·ε − lost + won) / sqrt(n·V), with V the variance at the
    likeliest rates under H0. The p-value is the greatest probability of an outcome at least as extreme, over every
    P(won) that the data leave possible (Berger and Boos: an interval that fails with a hundredth of `level`, which is
    added), at P(lost) = P(won) + ε: z falls with `lost`, so a greater P(lost) makes such outcomes rarer.

    Args:
        lost: texts made wrong by leaving early, 0 to n.
        won: texts made right by it.
        n: texts, >= 1.
        max_drop: ε, in [0, 1).
        level: what the p-value will be compared with; it decides how finely is searched, and p is never below 1 % of
            it.

    Returns:
        A number in (0, 1]; where H0 is true it is u or less with probability u or less. What is clearly far above the
        level is not worked out but given as 1.

    Raises:
        MissingExtraError: scipy is not installed.

    Source: Tango, Statistics in Medicine 17, 1998 (the statistic); Berger and Boos, JASA 89, 1994 (the interval);
    Hsueh, Liu and Chen, Biometrics 57, 2001 (exact tests of this kind).
    """
    statistic = float(score_statistic(lost, won, n, max_drop))
    if lost - won >= n * max_drop or statistic < _worth_a_search(level):
        return 1.0
    special, binom = from_extra("calibrate", "scipy.special"), from_extra("calibrate", "scipy.stats").binom
    outside, exact_to = _OUTSIDE * level, _EXACT_TO * level
    low = special.betaincinv(won, n - won + 1, outside / 2) if won else 0.0
    high = special.betaincinv(won + 1, n - won, 1 - outside / 2) if won < n else 1.0
    most = (1 - max_drop) / 2  # P(won) can't be greater where P(lost) is greater by `max_drop`
    low, high = min(low, most), min(high, most)
    # The counts of `won` that matter for a P(won) from `low` to `high`: all but `_BEYOND` of the chance.
    counts = np.arange(int(binom.ppf(_BEYOND / 2, n, low)), int(binom.isf(_BEYOND / 2, n, high)) + 1).clip(0, n)
    most_lost = _most_lost(statistic, counts, n, max_drop)

    def probability(rate: Array) -> Array:
        """Return P(an outcome at least as extreme) for every P(won) in `rate`, [R]."""
        wins = binom.pmf(counts, n, rate[:, None])
        share = np.minimum((rate[:, None] + max_drop) / (1 - rate[:, None]), 1.0)  # rounding can end above 1
        losses = special.bdtr(most_lost, n - counts, share)
        return np.asarray((wins * np.where(most_lost < 0, 0.0, losses)).sum(1))

    return float(min(1.0, _greatest(probability, low, high, n, max_drop, exact_to) + outside + exact_to + _BEYOND))


def _worth_a_search(level: float) -> float:
    """Return the statistic below which even the normal approximation is three times the level."""
    return NormalDist().inv_cdf(1 - min(3 * level, 0.5))


def score_statistic(lost: Any, won: Any, n: int, max_drop: float) -> Array:
    """Return Tango's score statistic; greater speaks more against H0."""
    linear = lost * (1 + max_drop) + won * (1 - max_drop) - 2 * max_drop * n
    rate = (linear + np.sqrt(linear**2 + 8 * n * won * max_drop * (1 - max_drop))) / (4 * n)
    variance = n * (2 * rate + max_drop - max_drop**2)
    # With no variance at all (ε = 0 and no answer changed) nothing speaks against H0.
    return np.asarray((n * max_drop - lost + won) / np.sqrt(np.maximum(variance, 1e-300)))


def _most_lost(statistic: Any, won: NDArray[np.int64], n: int, max_drop: float) -> NDArray[np.int64]:
    """Return for every count of `won` the greatest `lost` that is as extreme as `statistic`; -1 where none is."""
    low = np.full_like(won, -1)
    high = np.minimum(won + int(np.ceil(n * max_drop)), n - won) + 1  # from here on z is 0 or less, or there is none
    while (high - low > 1).any():
        middle = (low + high) // 2
        extreme = score_statistic(np.maximum(middle, 0), won, n, max_drop) >= statistic - 1e-9
        open_still = high - low > 1
        low, high = np.where(open_still & extreme, middle, low), np.where(open_still & ~extreme, middle, high)
    return low


def _greatest(probability: Any, low: float, high: float, n: int, max_drop: float, exact_to: float) -> float:
    """Return the greatest value of `probability` over [low, high], at most `exact_to` too small.

    Along P(won), arcsin sqrt(P) can't rise faster than half the root of the Fisher information. So a value at the
    middle of an interval bounds the whole of it, and intervals that may hold more are halved. Worked in the angle t of
    P(won) = m sin² t, m = (1 − ε) / 2 the greatest there is, where the information n (2 m (2 + 2 sin² t) + 4 m² sin² t
    cos² t / (P(won) + ε)) stays finite up to both ends.
    """
    most = (1 - max_drop) / 2
    first, last = (np.arcsin(np.sqrt(min(rate / most, 1.0))) for rate in (low, high))
    edges = np.linspace(first, last, _INTERVALS + 1)
    left, right, best = edges[:-1], edges[1:], 0.0
    while len(left):
        middle = (left + right) / 2
        value = np.clip(probability(most * np.sin(middle) ** 2), 0.0, 1.0)
        best = max(best, float(value.max()))
        square = np.sin(right) ** 2
        beside = 4 * most**2 * square * np.cos(left) ** 2 / (most * square + max_drop + 1e-300)
        slope = np.sqrt(n * (4 * most * (1 + square) + beside))
        angle = np.minimum(np.arcsin(np.sqrt(value)) + slope * (right - left) / 4, np.pi / 2)
        more = np.sin(angle) ** 2 > best + exact_to
        left, right = np.concatenate((left[more], middle[more])), np.concatenate((middle[more], right[more]))
    return best
