"""Measures what a few settings of each policy's front save on the clock, beside full depth in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from elbert.data.dataset import spread_over
from elbert.evaluation.evaluate import time_in_turns
from elbert.evaluation.sweep import Sweep
from elbert.exits import ExitPolicy, make
from elbert.scoring.points import TradeoffCurve, TradeoffPoint

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import Text

# Texts timed at most, spread evenly over the data: more would not make a ratio much surer, and take as much longer.
_MOST_TEXTS = 1000


def with_times(
    sweep: Sweep,
    classifier: Classifier,
    texts: Sequence[Text],
    points: int,
    *,
    batch_size: int = 32,
    repeats: int | None = None,
    on_text: Callable[[], object] | None = None,
) -> Sweep:
    """Return the sweep with `speedup` filled in for up to `points` settings of each policy's front.

    A policy's settings and full depth run in turns, tokenising included; the ratio of median rounds is the speedup.

    Args:
        sweep: from `sweep`, of this classifier or of several that differ in their weights only.
        classifier: what is timed.
        texts: at most 1,000 of them are timed.
        points: settings per policy, spread evenly over its front, twice as many of the constant depth; 0 times nothing.
        batch_size: texts in flight together.
        repeats: rounds; None takes three, fewer where they would take over a minute.
        on_text: called after every text of every round.
    """
    if points < 1:
        return sweep
    some = spread_over(texts, _MOST_TEXTS)
    rounds: list[int] = []

    def timed(curve: TradeoffCurve) -> TradeoffCurve:
        # The others are all drawn against the constant depth, so a coarse line of it would flatter them.
        chosen = spread(curve, 2 * points if curve.policy == "fixed" else points)
        policies = [make("full"), *(ExitPolicy.from_dict(point.policy) for point in chosen)]
        if len(policies) == 1:
            return curve
        results = [seconds for seconds, _ in time_in_turns(classifier, some, policies, batch_size, repeats, on_text)]
        rounds.append(len(results[0]))
        full, *medians = [max(statistics.median(seconds), 1e-9) for seconds in results]
        speedups = {id(point): full / seconds for point, seconds in zip(chosen, medians, strict=True)}
        return replace(curve, points=tuple(replace(point, speedup=speedups.get(id(point))) for point in curve.points))

    curves = tuple(timed(curve) for curve in sweep.curves)
    timing = {
        "n": len(some),
        "rounds": min(rounds, default=0),
        "batch_size": batch_size,
        "backend": classifier.backend,
        "dtype": classifier.dtype,
        "device": classifier.device,
        "threads": torch.get_num_threads(),
    }
    return replace(sweep, full_depth=replace(sweep.full_depth, speedup=1.0), curves=curves, timing=timing)


def spread(curve: TradeoffCurve, points: int) -> list[TradeoffPoint]:
    """Return up to `points` settings of a curve's front, from its fastest to its slowest in even steps."""
    front = sorted((point for point in curve.points if point.on_front), key=lambda point: point.mean_exit_layer)
    if points == 1:
        return front[len(front) // 2 :][:1]
    places = np.unique(np.linspace(0, len(front) - 1, min(points, len(front))).round().astype(int))
    return [front[place] for place in places]
