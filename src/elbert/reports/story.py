"""The curves of one evaluation: what a report's page and the demo's picture both show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elbert.errors import UsageError
from elbert.evaluation.evaluate import Evaluation
from elbert.exits.words import with_words
from elbert.reports.plots import DepthCurve
from elbert.scoring.curves import LayerZeroCost, OperatingPoint, operating_points, scores_by_layer, uncounted

if TYPE_CHECKING:
    from elbert.data import TextDataset
    from elbert.exits import ExitPolicy
    from elbert.results import LayerOutputs


def curves_of(
    outputs: LayerOutputs,
    dataset: TextDataset,
    policy: ExitPolicy,
    metric: str | None = None,
    *,
    thresholds: Sequence[float | None] | None = None,
    layer_0_cost: LayerZeroCost = uncounted,
) -> tuple[list[float], list[OperatingPoint]]:
    """Return each layer's score [M], and where every setting of the policy's own grid stands.

    Args:
        outputs: a full-depth recording of the data set's texts, with the tokens that the policy keeps.
        dataset: with labels.
        policy: whose grid to sweep.
        metric: its name; None takes the problem type's own.
        thresholds: of layer 0, each tried with every setting; None takes the policy's own alone.
        layer_0_cost: what layer 0 takes of every text under each policy.

    Raises:
        UsageError: the data set has no labels.
    """
    if dataset.labels is None:
        raise UsageError(f"{dataset.name} has no labels; curves need them")
    _, layers, classes = outputs.probs.shape
    learnt = policy.tensors()
    grid = [replace(each, **policy.around) for each in policy.grid(layers, classes)]
    grid = [each.with_tensors(learnt) for each in grid] if learnt else grid
    grid = grid if thresholds is None else with_words(grid, thresholds)
    points = operating_points(outputs, dataset.labels, grid, metric, layer_0_cost)
    return scores_by_layer(outputs, dataset.labels, metric), points


def depth_curve(result: Evaluation, scores: Sequence[float], points: Sequence[OperatingPoint]) -> DepthCurve:
    """Return what to draw: every layer's score, the policy in use, and the other settings of its grid.

    Args:
        result: the evaluation.
        scores: [M] as `curves_of` gives them.
        points: likewise.
    """
    others = [(point.mean_exit_layer, point.score) for point in points]
    return DepthCurve(scores, result.metric, (result.mean_exit_layer, result.score), others)
