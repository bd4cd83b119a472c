"""p-values for one policy: is the mean loss of n texts below a limit? Numbers only; one function for each bound.

Every function tests H0: mean ≥ limit, so a small p-value says that the limit is kept. All are valid for every n.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.lazy import from_extra

Array = NDArray[np.float64]

# What the betting bound stakes, as shares of the most it may; no text decides which, so no order of texts matters.
_STAKES = np.concatenate((np.geomspace(0.01, 0.5, 12), [0.6, 0.7, 0.8, 0.9, 1.0]))


def binomial_p_value(count: ArrayLike, n: ArrayLike, limit: float) -> Array:
    """Return P(Binomial(n, limit) ≤ count): exact for losses of 0 and 1.

    Args:
        count: losses of 1, any shape.
        n: texts, likewise, >= 1.
        limit: in (0, 1).
    """
    special = from_extra("calibrate", "scipy.special")
    return np.asarray(special.bdtr(np.asarray(count, float), np.asarray(n), limit), dtype=np.float64)


def hoeffding_bentkus_p_value(mean: ArrayLike, n: int, limit: float) -> Array:
    """Return the smaller of Hoeffding's and Bentkus' bound: for any losses in [0, 1].

    Hoeffding: exp(−n·kl(mean, limit)); Bentkus: e·P(Binomial(n, limit) ≤ ⌈n·mean⌉).

    Args:
        mean: mean loss, any shape, in [0, 1].
        n: texts, >= 1.
        limit: in (0, 1).

    Source: Angelopoulos et al., "Learn then Test", 2110.01052; Bates et al., JACM 68, 2021.
    """
    special, given = from_extra("calibrate", "scipy.special"), np.minimum(np.asarray(mean, dtype=np.float64), limit)
    divergence = special.rel_entr(given, limit) + special.rel_entr(1 - given, 1 - limit)
    # n·mean of n zeros and ones is whole; a hair above it must not count as one loss more.
    bentkus = np.e * binomial_p_value(np.ceil(n * np.asarray(mean) - 1e-9), n, limit)
    return np.asarray(np.minimum(1.0, np.minimum(np.exp(-n * divergence), bentkus)))


def betting_p_value(losses: ArrayLike, limit: float) -> Array:
    """Return one over the wealth of a gambler who bets against H0: for any losses in [-1, 1].

    A gambler who stakes λ on every text holds Π (1 + λ·(limit − loss)); under H0 nobody's wealth grows in the mean, so
    by Markov it reaches 1/u with probability u or less. The capital is split over 17 stakes, from 1 % of what may be
    staked, 1 / (1 − limit), to all of it: small ones win from a small gap, large ones where no loss occurs.

    Args:
        losses: [N] or [N, P], P policies on the same texts.
        limit: in (-1, 1).

    Returns:
        p-values [P], or one.

    Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86, 2024 (the
        grid of
    stakes: section B.3).
    """
    values = np.asarray(losses, dtype=np.float64)
    logs = np.full((len(_STAKES), *values.shape[1:]), -np.inf)
    for place, share in enumerate(_STAKES):
        factor = 1 + share / (1 - limit) * (limit - values)
        with np.errstate(divide="ignore"):  # a full stake on a loss of 1 leaves nothing
            logs[place] = np.log(np.maximum(factor, 0.0)).sum(0)
    top = np.maximum(logs.max(0), -700.0)
    wealth = top + np.log(np.exp(logs - top).mean(0))
    return np.asarray(np.exp(np.minimum(0.0, -wealth)))
