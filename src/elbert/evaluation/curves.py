"""What every depth and every setting of a policy would have scored, from one full-depth recording. Runs no model.

N texts, M exits, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from elbert.evaluation.metrics import score
from elbert.exits import ExitPolicy, replay
from elbert.results import LayerOutputs, ProblemType


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where one policy stands between quality and depth.

    Attributes:
        policy: the policy.
        score: what the texts scored at the exits it chose.
        mean_exit_layer: layers a text ran on average, 1 .. M.
        changed: share of the texts whose answer differs from the one at full depth.
        n: texts behind these numbers.
    """

    policy: ExitPolicy
    score: float
    mean_exit_layer: float
    changed: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "policy": self.policy.to_dict()}


def answers(probs: Tensor, problem_type: ProblemType) -> Tensor:
    """Return what `evaluation.metrics.score` takes as predictions.

    Args:
        probs: [N, C] softmax, sigmoid or raw values.
        problem_type: how to read them.

    Returns:
        Class indices [N]; 0/1 decisions [N, C] at probability 0.5 for multi-label; values [N] or [N, C] for regression.
    """
    if problem_type == "single_label_classification":
        return probs.argmax(-1)
    if problem_type == "multi_label_classification":
        return (probs >= 0.5).to(torch.float32)
    return probs.squeeze(-1) if probs.shape[-1] == 1 else probs


def scores_by_layer(outputs: LayerOutputs, labels: ArrayLike, metric: str | None = None) -> list[float]:
    """Return the score of each layer's exit, [M]: what a model cut off after that layer would reach.

    Args:
        outputs: a full-depth recording of N texts.
        labels: [N] or [N, C], encoded as the metric wants them.
        metric: its name; None takes the problem type's own.
    """
    return [_score(outputs, outputs.probs[:, layer], labels, metric) for layer in range(outputs.probs.shape[1])]


def operating_points(
    outputs: LayerOutputs, labels: ArrayLike, policies: Iterable[ExitPolicy], metric: str | None = None
) -> list[OperatingPoint]:
    """Replay every policy over one recording and return where each stands, in the order given.

    Args:
        outputs: a full-depth recording of N texts.
        labels: [N] or [N, C], encoded as the metric wants them.
        policies: what to replay.
        metric: its name; None takes the problem type's own.
    """
    texts = len(outputs.probs)
    rows = torch.arange(texts)
    full_depth = answers(outputs.probs[:, -1], outputs.problem_type).view(texts, -1)
    points = []
    for policy in policies:
        exit_layer = replay(policy, outputs)
        probs = outputs.probs[rows, exit_layer - 1]
        differs = (answers(probs, outputs.problem_type).view(texts, -1) != full_depth).any(-1)
        value = _score(outputs, probs, labels, metric)
        points.append(
            OperatingPoint(policy, value, float(exit_layer.double().mean()), float(differs.double().mean()), texts)
        )
    return points


def fastest_within(
    points: Sequence[OperatingPoint], full_depth_score: float, max_drop: float, *, margin: float = 1.0
) -> OperatingPoint | None:
    """Return the point with the fewest layers whose drop from full depth, with a margin, is at most `max_drop`.

    The drop of an accuracy can't be known better than by its standard error, at most sqrt(changed / n): each changed
    answer is one right answer lost, one won, or neither. A point must keep within `max_drop` with `margin` times that
    added. This is caution, not a guarantee: choose on held-out texts, report on others.

    Args:
        points: from `operating_points`.
        full_depth_score: an accuracy.
        max_drop: accuracy that may be given up, >= 0.
        margin: standard errors added; 0 takes the numbers as they are.

    Returns:
        The point, of equally deep ones the better; None where no point is good enough.
    """

    def drop(point: OperatingPoint) -> float:
        return full_depth_score - point.score + margin * sqrt(point.changed / point.n)

    # Accuracies are ratios of counts: a hair of rounding must not turn "exactly at the limit" into "beyond".
    good = [point for point in points if drop(point) <= max_drop + 1e-9]
    return min(good, key=lambda point: (point.mean_exit_layer, -point.score), default=None)


def _score(outputs: LayerOutputs, probs: Tensor, labels: ArrayLike, metric: str | None) -> float:
    return score(outputs.problem_type, answers(probs, outputs.problem_type).numpy(), labels, metric)[1]
