"""The score of every exit's decisions while a model learns, and how sure that of the last one is."""

from __future__ import annotations

from typing import Any

import numpy as np

from elbert.results import ProblemType
from elbert.scoring.metrics import score

# Resamples of the dev split from which the standard error of a score is taken.
_RESAMPLES = 100


def layer_scores(evaluated: Any, *, problem_type: ProblemType, metric: str) -> dict[str, float]:
    """Score every exit's decisions.

    Args:
        evaluated: transformers' `EvalPrediction` with `Task.decisions` of every exit, and labels.
        problem_type: how to read them.
        metric: full name of the metric.

    Returns:
        `layer_1` … `layer_M`, `final` (the last), `mean-exit` (the mean over all) and `error`, the standard error of
        `final` over texts, by bootstrap.
    """
    given, labels = evaluated.predictions, evaluated.label_ids

    def scored(layer: int, texts: Any) -> float:
        one, wanted = given[texts, layer], labels[texts]
        return score(problem_type, one.reshape(wanted.shape), wanted.astype(one.dtype), metric)[1]

    scores = [scored(layer, slice(None)) for layer in range(given.shape[1])]
    named = {f"layer_{layer}": value for layer, value in enumerate(scores, start=1)}
    rng, rows = np.random.default_rng(0), len(labels)
    drawn = [scored(-1, rng.integers(rows, size=rows)) for _ in range(_RESAMPLES)]
    return {**named, "final": scores[-1], "mean-exit": float(np.mean(scores)), "error": float(np.std(drawn))}
