"""Layer 0's rule: a text leaves before the first layer where its words are sure enough. Fits nothing."""

from __future__ import annotations

from elbert.arrays import Array
from elbert.tasks import Task


def by_words(probs: Array, task: Task, threshold: Array | float) -> Array:
    """Return which texts leave at layer 0, [rows] bool.

    Args:
        probs: [rows, C] what their words say.
        task: how to read it.
        threshold: `policy.words` of all or of each; where it is None nobody need be asked.
    """
    leaves: Array = task.confidence(probs) > threshold
    return leaves
