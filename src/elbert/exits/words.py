"""Layer 0's rule: a text leaves before the first layer where its words are sure enough. Fits nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elbert.arrays import Array
from elbert.tasks import Task

if TYPE_CHECKING:
    from elbert.exits.base import ExitPolicy

# Thresholds that are tried with every setting of a policy. Of what layer 0 calls likely more is right than it says, so
# thresholds that look low are often the best ones.
GRID = (0.99, 0.97, 0.93, 0.85, 0.75, 0.6)


def by_words(probs: Array, task: Task, threshold: Array | float) -> Array:
    """Return which texts leave at layer 0, [rows] bool.

    Args:
        probs: [rows, C] what their words say.
        task: how to read it.
        threshold: `policy.words` of all or of each; where it is None nobody need be asked.
    """
    leaves: Array = task.confidence(probs) > threshold
    return leaves


def with_words(policies: Iterable[ExitPolicy], thresholds: Sequence[float | None] = GRID) -> list[ExitPolicy]:
    """Return every setting of a policy with every threshold of layer 0.

    Args:
        policies: the settings.
        thresholds: `words`; None for layer 0 off.
    """
    return [replace(each, words=threshold) for each in policies for threshold in thresholds]
