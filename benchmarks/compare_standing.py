"""How rivals do beside the policies of one kind of training: at as many layers, and on the clock.

Reads what was recorded; trains nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compare_judge import Answers, Judged
from compare_rivals import RivalRun
from elbert import Classifier
from elbert.data import Text
from elbert.evaluation.sweep import grids, sample
from elbert.exits import ExitPolicy, make
from elbert.predictor import Predictor
from elbert.scoring.curves import replay_all
from elbert.scoring.held_out import band

# Policies that a rival is held against, as far as they were replayed.
AGAINST = ("fixed", "elbert", "entropy", "max_prob", "past_future")


def speedup(
    whole: Classifier,
    rival: Predictor,
    texts: Sequence[Text],
    policy: ExitPolicy | None = None,
    rounds: int = 3,
) -> float:
    """Return how many times faster a rival answers than the whole model at full depth: medians of rounds in turns.

    Args:
        whole: the model with exits.
        rival: another, or a cascade.
        texts: all of them are timed.
        policy: of the rival; None for full depth.
        rounds: of each.
    """
    racers = ((whole, make("full")), (rival, policy or make("full")))
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(-1, rounds):  # the first warms up
        for place in (0, 1) if number % 2 else (1, 0):
            (model, way), start = racers[place], time.perf_counter()
            model.predict(texts, policy=way)
            if number >= 0:
                seconds[place].append(time.perf_counter() - start)
    full, own = map(statistics.median, seconds)
    return full / max(own, 1e-9)


@dataclass(frozen=True)
class Standing:
    """How a rival does beside the policies of one kind of training.

    Attributes:
        rival: its name.
        layers: that every text runs, the mean over the seeds.
        weights: share of the layers' weights that is left; None where whole layers went.
        speedup: measured on the whole model at full depth; None where nothing was timed.
        models: one a seed.
        score: of the texts to report on.
        scheme: the kind of training it is held against.
        policies: score there at as many layers on average, by policy, with what the rival's is above it and that
            difference's band, of pairs of the same resamples.
        trained: what was said of each training.
    """

    rival: str
    layers: float
    weights: float | None
    models: int
    score: float
    scheme: str
    policies: dict[str, tuple[float, float, tuple[float, float]]]
    trained: list[dict[str, Any]]
    speedup: float | None = None


def standing(
    runs: Sequence[tuple[RivalRun, Path]],
    seeds: Sequence[Answers],
    scheme: str,
    judged: Judged,
    bootstrap: int,
) -> Standing:
    """Hold a rival against policies at as many layers.

    Args:
        runs: of the rival, with their folders, in the order of the seeds.
        seeds: what its models answered, in the order of the seeds.
        scheme: the kind of training it is held against.
        judged: that, over as many seeds.
        bootstrap: resamples, as many as were judged with.
    """
    _, depth, classes = seeds[0].test.probs.shape
    costs = [run.cost(folder, answers) for (run, folder), answers in zip(runs, seeds, strict=True)]
    layers, weights = float(np.mean([each for each, _ in costs])), [each for _, each in costs if each is not None]
    metric = runs[0][0].run.ground.metric
    replays = [replay_all(grids([], depth, classes), answers.test) for answers in seeds]
    drawn = sample(replays, seeds[0].test_labels, metric=metric, bootstrap=bootstrap)
    own, own_drawn = float(drawn.mean.score[0, drawn.full]), drawn.drawn.score[:, drawn.full]
    held, found = judged.held_out, {}
    for name in (name for name in AGAINST if name in held.lines):
        value = float(np.interp(layers, held.at, held.lines[name]))
        values = np.array([np.interp(layers, held.at, line) for line in held.drawn[name]])
        found[name] = (value, own - value, band(own_drawn - values))
    return Standing(
        rival=runs[0][0].rival.name,
        layers=layers,
        weights=float(np.mean(weights)) if weights else None,
        models=len(seeds),
        score=own,
        scheme=scheme,
        policies=found,
        trained=[answers.trained for answers in seeds],
    )
