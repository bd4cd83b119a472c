"""Scores a classifier on labelled texts and times its exits against its own full depth, in one run.

Both sides are timed as a user sees them, tokenising included, on the same engine, texts and batch size, in turns.
Sweeps belong to `curves`, pictures to `plots`.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from elbert.cascade import Cascade
from elbert.data.dataset import in_space_of
from elbert.engine.layer_zero import seconds_of_words
from elbert.errors import DataError, UsageError
from elbert.evaluation.layer_zero import asked_words
from elbert.exits import ExitPolicy, make
from elbert.exits.tokens import token_layers
from elbert.scoring.metrics import metric_name, score
from elbert.tasks import task_of

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import Text, TextDataset
    from elbert.results import Prediction

# Rounds of timing where the caller names no number, and the seconds after which no further round is begun.
_ROUNDS = 3
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good and how fast a classifier is with its exits, beside itself at full depth.

    Of a cascade the exits are its models, full depth is the last model alone, with whatever exits that has, and layers
    are counted in those of the last model, see `Prediction.cost`.

    Attributes:
        n: texts.
        metric: name of the metric.
        score: with exits.
        full_depth_score: without.
        layers: M.
        mean_exit_layer: layers a text ran on average; where layer 0 is on, every text ran that too, at its cost.
        layer_speedup: M / mean exit layer; of a cascade the layers that the last model alone runs on average / that.
        token_layers: tokens of every layer that was run, added up, as a share of all tokens at all layers; depth and
            length are compared by it. Where layer 0 is on, its cost is in it. None for a cascade.
        seconds: wall-clock for all texts with exits, the median of `repeats` rounds.
        full_depth_seconds: likewise at full depth.
        speedup: full_depth_seconds / seconds.
        engine_efficiency: speedup / layer_speedup, the share of the saved layers that became saved time.
        exit_histogram: [M] texts that left after layer 1 … M; of a cascade, texts that each model answered.
        layer_0: texts that left at layer 0, 0 where it is only added to the exits; None where it is off.
        layer_0_cost: what layer 0 takes of a text, measured, in layers; None where it is off.
        policy: the exit policy as JSON.
        backend: what computed.
        dtype: in which precision.
        device: and where.
        batch_size: texts in flight together.
        threads: of torch.
        repeats: rounds timed; each runs all texts both ways.
        models: how many a cascade has; None for a single one.
    """

    n: int
    metric: str
    score: float
    full_depth_score: float
    layers: int
    mean_exit_layer: float
    layer_speedup: float
    seconds: float
    full_depth_seconds: float
    speedup: float
    engine_efficiency: float
    exit_histogram: tuple[int, ...]
    policy: dict[str, Any]
    backend: str
    dtype: str
    device: str
    batch_size: int
    threads: int
    repeats: int
    token_layers: float | None = None
    models: int | None = None
    layer_0: int | None = None
    layer_0_cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `elbert evaluate --json` ends with."""
        return {**asdict(self), "exit_histogram": list(self.exit_histogram)}


def evaluate(
    classifier: Classifier | Cascade,
    dataset: TextDataset,
    policy: ExitPolicy | None = None,
    *,
    batch_size: int = 32,
    metric: str | None = None,
    repeats: int | None = None,
    on_text: Callable[[], object] | None = None,
) -> Evaluation:
    """Score and time `classifier` on `dataset`.

    Args:
        classifier: what to evaluate, a model or a cascade of several.
        dataset: texts with labels; classes are told by their names.
        policy: the exits; None takes the classifier's.
        batch_size: texts in flight together.
        metric: its name; None takes the problem type's own.
        repeats: rounds to time, >= 1; None times three, fewer where they would take over a minute.
        on_text: called after every text of every pass, for a progress bar.

    Raises:
        UsageError: `repeats` below 1, or a metric that does not fit.
        DataError: there are no texts, or no labels, or one that the classifier does not know.
    """
    if repeats is not None and repeats < 1:
        raise UsageError(f"repeats is {repeats}; it must be at least 1")
    if dataset.labels is None or not len(dataset):
        raise DataError(f"{dataset.name}: nothing to evaluate; give at least one text with a label")
    dataset = in_space_of(dataset, classifier.labels)
    metric = metric_name(classifier.problem_type, metric)
    chosen = classifier.policy if policy is None else policy
    policies = (make("full"), chosen)
    timed = time_in_turns(classifier, dataset.texts, policies, batch_size, repeats, on_text)
    full_depth, exits = (_Side(seconds, predictions) for seconds, predictions in timed)
    sides = zip(policies, (full_depth, exits), strict=True)
    asked = [asked_words(classifier, policy, dataset.texts, side.predictions) for policy, side in sides]
    costs = [_in_layers(pairs, full_depth) for pairs in asked]
    models = len(classifier.models) if isinstance(classifier, Cascade) else None
    mean_exit_layer, speedup = exits.layers + costs[1], full_depth.median / exits.median
    layer_speedup = (full_depth.layers + costs[0]) / mean_exit_layer
    work = None
    if not isinstance(classifier, Cascade):
        work = _share_of_work(classifier, dataset.texts, chosen, exits.predictions) + costs[1] / classifier.num_layers
    return Evaluation(
        n=len(dataset),
        metric=metric,
        score=_score(classifier, exits.predictions, dataset, metric),
        full_depth_score=_score(classifier, full_depth.predictions, dataset, metric),
        layers=(classifier.models[-1] if isinstance(classifier, Cascade) else classifier).num_layers,
        mean_exit_layer=mean_exit_layer,
        layer_speedup=layer_speedup,
        seconds=exits.median,
        full_depth_seconds=full_depth.median,
        speedup=speedup,
        engine_efficiency=speedup / layer_speedup,
        exit_histogram=exits.histogram(models or classifier.num_layers),
        policy=chosen.to_dict(),
        backend=classifier.backend,
        dtype=classifier.dtype,
        device=classifier.device,
        batch_size=batch_size,
        threads=torch.get_num_threads(),
        repeats=len(exits.seconds),
        token_layers=work,
        models=models,
        layer_0=sum(each.exit_layer == 0 for each in exits.predictions) if asked[1] else None,
        layer_0_cost=costs[1] if asked[1] else None,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two ways of running all texts: the seconds of each round, and the answers."""

    seconds: list[float]
    predictions: list[Prediction]

    @property
    def median(self) -> float:
        return max(statistics.median(self.seconds), 1e-9)

    @property
    def layers(self) -> float:
        """Layers that a text ran on average, layer 0 not counted."""
        costs = (each.exit_layer if each.cost is None else each.cost for each in self.predictions)
        return sum(costs) / len(self.predictions)

    def histogram(self, exits: int) -> tuple[int, ...]:
        """Return how many texts left at each exit from 1 on, where models are the exits of a cascade."""
        left = Counter(each.exit_layer if each.member is None else each.member for each in self.predictions)
        return tuple(left[place] for place in range(1, exits + 1))


def _in_layers(asked: Sequence[tuple[Classifier, Sequence[Text]]], full_depth: _Side) -> float:
    """Return what layer 0 takes of a text, in layers: of each model those texts that it was asked about."""
    layers = max(full_depth.layers, 1 / len(full_depth.predictions))  # none, where a cascade's last model asks its own
    seconds = (seconds_of_words(model.words, list(model.arrivals(texts, {}))) for model, texts in asked if model.words)
    return sum(seconds) / full_depth.median * layers


def time_in_turns(
    classifier: Classifier | Cascade,
    texts: Sequence[Any],
    policies: Sequence[ExitPolicy],
    batch_size: int,
    repeats: int | None = None,
    on_text: Callable[[], object] | None = None,
) -> list[tuple[list[float], list[Prediction]]]:
    """Run all texts under every policy in turns; return (seconds of each round, predictions) per policy.

    Args:
        classifier: what runs.
        texts: what it runs on, tokenising included.
        policies: who is timed against whom.
        batch_size: texts in flight together.
        repeats: rounds; None takes three, fewer where they would take over a minute.
        on_text: called after every text of every round.
    """

    def run(policy: ExitPolicy, part: Sequence[Any]) -> list[Prediction]:
        predictions = []
        for prediction in classifier.stream(part, policy=policy, batch_size=batch_size):
            predictions.append(prediction)
            if on_text is not None:
                on_text()
        return predictions

    for policy in policies:  # warm-up: first calls allocate and choose kernels
        for _ in classifier.stream(texts[: 2 * batch_size], policy=policy, batch_size=batch_size):
            pass
    results: list[tuple[list[float], list[Prediction]]] = [([], []) for _ in policies]
    begun = time.perf_counter()
    for number in range(repeats or _ROUNDS):
        if repeats is None and number and time.perf_counter() - begun > _PATIENCE_SECONDS:
            break
        # Every other round goes the other way round, so that a machine that slows down favours neither side.
        for place in range(len(policies))[:: 1 if number % 2 == 0 else -1]:
            start = time.perf_counter()
            predictions = run(policies[place], texts)
            results[place][0].append(time.perf_counter() - start)
            results[place][1][:] = predictions
    return results


def _share_of_work(
    classifier: Classifier, texts: Sequence[Text], policy: ExitPolicy, predictions: Sequence[Prediction]
) -> float:
    """Return the token-layers that these answers took, as a share of what full depth takes of the same texts."""
    arrived = sorted(classifier.arrivals(texts, {}), key=lambda arrival: arrival.index)
    lengths = np.array([len(arrival.ids) for arrival in arrived])
    exit_layer = np.array([prediction.exit_layer for prediction in predictions])
    ran = token_layers(policy.tokens, lengths, exit_layer).sum()
    return float(ran / (lengths.sum() * classifier.num_layers))


def _score(
    classifier: Classifier | Cascade, predictions: Sequence[Prediction], dataset: TextDataset, metric: str
) -> float:
    """Score predictions, their labels turned back into what the data set's labels are encoded as."""
    given = [encode_answer(prediction.label, classifier) for prediction in predictions]
    return score(classifier.problem_type, given, dataset.labels or [], metric)[1]


def encode_answer(label: Any, classifier: Classifier | Cascade) -> Any:
    """Return a prediction's label as a class index, a 0/1 row, or a value."""
    return task_of(classifier.problem_type).encoded(label, classifier.labels.names)
