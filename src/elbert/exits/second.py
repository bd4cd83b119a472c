"""What rules share that ask a classifier over several layers' states, beside the exit: a second opinion, and its loss.

Exits answer for themselves, so a text leaves only where its exit says what the second opinion says: the answer is then
the second opinion's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.arrays import Array
from elbert.results import ExitOutput
from elbert.tasks import Task, reading


def teaches(said: ExitOutput) -> bool:
    """Tell whether answers can teach an opinion on classes; values can't."""
    return reading(said).has_classes


def opinion(logits: Array, output: ExitOutput) -> tuple[Array, Array]:
    """Return what the second opinion's logits [rows, C] say, as probabilities, and where the exit says it too, [rows].

    Raises:
        ValueError: it was learnt for another number of classes.
    """
    if logits.shape != output.probs.shape:
        raise ValueError(f"an opinion on {logits.shape[-1]} classes about {output.probs.shape[-1]}")
    task = reading(output)
    probs = task.probabilities(logits)
    return probs, task.same(output.probs, probs, 0.0)


def slope(logits: NDArray[np.float64], targets: NDArray[Any], task: Task) -> tuple[float, NDArray[np.float64]]:
    """Return the loss of logits [N, M, C], meaned over texts and layers, and its derivative by them.

    Args:
        logits: of every layer.
        targets: [N] or [N, C], encoded.
        task: whose loss it is.
    """
    import torch  # here: rules need none

    given = torch.from_numpy(logits).requires_grad_()
    loss = task.exit_losses(given, torch.from_numpy(np.asarray(targets))).mean()
    (gradient,) = torch.autograd.grad(loss, given)
    return loss.item(), gradient.numpy()
