"""What a policy is worth where its settings were chosen on one half of the texts and scored on the other.

Runs no model, replays nothing. P settings, D depths, R rows of scores, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.scoring import pareto
from elbert.scoring.points import SpeedupPoint
from elbert.scoring.resample import Scores

Array = NDArray[Any]

# Share of the resamples that a band holds.
CONFIDENCE = 0.95
EDGES = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)

# How many times fewer layers than full depth scores are told at.
LAYER_SPEEDUPS = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0)

# What everything is held against: one depth for all texts.
CONSTANT = "fixed"


def band(values: Array) -> tuple[float, float]:
    """Return the edges of the band that holds `CONFIDENCE` of the values [B]."""
    low, high = np.quantile(values, EDGES)
    return float(low), float(high)


def front_of(places: Sequence[int], scores: Scores, row: int) -> list[int]:
    """Return those of `places` that are on their common front in one row of `scores`."""
    chosen = list(places)
    mask = pareto.front(scores.mean_exit_layer[row, chosen], scores.score[row, chosen])
    return [place for place, kept in zip(chosen, mask, strict=True) if kept]


def heights(places: Sequence[int], scores: Scores, at: Array, rows: Iterable[int] | None = None) -> Array:
    """Return the curve through `places` in every row of `scores`, [rows, D]."""
    chosen = list(places)
    each = range(len(scores.score)) if rows is None else rows
    lines = [pareto.curve(scores.mean_exit_layer[row, chosen], scores.score[row, chosen], at) for row in each]
    return np.stack(lines)


def crossed(places: Sequence[int], scores: Scores, at: Array) -> Array:
    """Return curves of settings chosen on one half of the texts and scored on the other, meaned over both ways.

    Args:
        places: of the settings to choose from.
        scores: [R, P]; rows 2i and 2i + 1 are of two halves without a text in common.
        at: [D] depths.

    Returns:
        [R / 2, D].
    """
    rows = range(len(scores.score))
    lines = [heights(front_of(places, scores, row), scores, at, [row ^ 1]) for row in rows]
    both: Array = np.concatenate(lines).reshape(-1, 2, len(at)).mean(1)
    return both


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Curves of several groups of settings, none chosen on the texts it is scored on.

    A group is a policy's settings, mostly; the constant depth is always one. Values of `drawn` belong to the same
    resamples in every group, and in every other `HeldOut` of as many texts, models and resamples with the same seed,
    so that differences are of pairs.

    Attributes:
        at: [D] depths of the curves, 1 to M.
        lines: [D] of every group, meaned over many ways to halve the texts.
        drawn: [B, D] of every group, each resample halved in its own way.
    """

    at: Array
    lines: Mapping[str, Array]
    drawn: Mapping[str, Array]

    def area(self, group: str) -> tuple[float, Array]:
        """Return the normalised area under a group's curve, and [B] its areas on the resamples."""
        return float(pareto.area(self.lines[group], self.at)), pareto.area(self.drawn[group], self.at)

    def ranks(self) -> dict[str, tuple[float, Array]]:
        """Return the rank by area of every group, 1 the greatest, and [B] on resamples; equals share theirs."""
        names = list(self.lines)
        areas = [self.area(name) for name in names]
        own = _ranked(np.array([[value for value, _ in areas]]))[0]
        drawn = _ranked(np.stack([values for _, values in areas], axis=1))
        return {name: (float(own[place]), drawn[:, place]) for place, name in enumerate(names)}

    def at_speedup(self, group: str, layer_speedup: float) -> SpeedupPoint:
        """Return what a group scores with so many times fewer layers; at most as many as lead to layer 1."""
        depth = max(self.at[-1] / layer_speedup, self.at[0])
        own, drawn = self._at(self.lines[group][None], depth)[0], self._at(self.drawn[group], depth)
        constant = self._at(self.lines[CONSTANT][None], depth)[0]
        constant_drawn = self._at(self.drawn[CONSTANT], depth)
        return SpeedupPoint(
            layer_speedup=layer_speedup,
            score=float(own),
            score_band=band(drawn),
            gain=float(own - constant),
            gain_band=band(drawn - constant_drawn),
        )

    def _at(self, lines: Array, depth: float) -> Array:
        """Return the heights of curves [n, D] at one depth, [n]."""
        place = float(np.interp(depth, self.at, np.arange(len(self.at))))
        low = int(place)
        high = min(low + 1, len(self.at) - 1)
        between: Array = lines[:, low] + (place - low) * (lines[:, high] - lines[:, low])
        return between


def _ranked(values: Array) -> Array:
    """Return the rank of every value of a row [n, K], 1 the greatest, equals meaned."""
    above = (values[:, None, :] > values[:, :, None]).sum(2)
    equal = (values[:, None, :] == values[:, :, None]).sum(2)
    ranks: Array = above + (equal + 1) / 2
    return ranks
