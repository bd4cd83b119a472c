"""Fronts, and the curves and areas that come of them. Knows pairs (mean exit layer, score) only.

P settings; D depths at which a curve is given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

# Depths between two layers at which a curve is given: areas by trapezoids are exact to the third digit and further.
STEPS_PER_LAYER = 16


def front(depths: ArrayLike, scores: ArrayLike) -> Array:
    """Return which settings are on the Pareto front, [P] bool: nothing is as good in fewer layers, or better in as few.

    Of settings that are alike in both, the first is on it.

    Args:
        depths: [P] mean exit layers.
        scores: [P], higher is better.
    """
    shallow, good = np.asarray(depths, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    order = np.lexsort((np.arange(len(good)), -good, shallow))
    best = np.maximum.accumulate(good[order])
    mask = np.zeros(len(good), dtype=bool)
    mask[order[np.concatenate(([True], good[order][1:] > best[:-1]))]] = True
    return mask


def depths_between(layers: int) -> Array:
    """Return the depths at which curves are given, [D] from 1 to M in equal steps; [1] for a single layer."""
    return np.linspace(1, layers, (layers - 1) * STEPS_PER_LAYER + 1)


def curve(depths: ArrayLike, scores: ArrayLike, at: Array) -> Array:
    """Join settings by straight lines in the order of their depth and return the height at `at`, [D].

    Level before the first setting and behind the last. A point on a line can be had: let a coin choose the setting for
    each text (for metrics that are means over texts exactly so, for others nearly).

    Args:
        depths: [P] mean exit layers.
        scores: [P].
        at: [D] ascending.
    """
    shallow, good = np.asarray(depths, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    order = np.lexsort((good, shallow))
    height: Array = np.interp(at, shallow[order], good[order])
    return height


def area(heights: Array, at: Array) -> Array:
    """Return the mean height of curves [..., D] over `at`: ∫ score d(layer) / (M − 1), the height itself for M = 1.

    The same number as the integral over the layer fraction from 1/M to 1, divided by its width.
    """
    if len(at) == 1:
        return heights[..., 0]
    whole: Array = np.trapezoid(heights, at, axis=-1) / (at[-1] - at[0])
    return whole
