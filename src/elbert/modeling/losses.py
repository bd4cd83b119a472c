"""The loss of every exit, which a loss scheme then weighs. Holds no scheme itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from elbert.results import ProblemType
from elbert.tasks import task_of


def row_losses(
    logits: Tensor, labels: Tensor, problem_type: ProblemType, class_weights: Tensor | None = None
) -> Tensor:
    """Return each exit's own loss of every text, computed in fp32.

    Args:
        logits: [B, M, C].
        labels: [B] class indices (single label), [B, C] of 0 and 1 (multi-label), [B] or [B, C] values (regression).
        problem_type: cross-entropy, binary cross-entropy, or squared error.
        class_weights: [C] that a text's loss is multiplied by, by its class; None for all alike.

    Returns:
        [B, M] losses, meaned over the classes where there are several numbers a text.
    """
    losses = task_of(problem_type).exit_losses(logits.float(), labels)
    return losses if class_weights is None else losses * class_weights[labels.long()][:, None]


def layer_losses(logits: Tensor, labels: Tensor, problem_type: ProblemType) -> Tensor:
    """Return each exit's own loss, meaned over the batch, [M]; arguments as in `row_losses`."""
    return row_losses(logits, labels, problem_type).mean(0)


def labelled_losses(
    logits: Tensor,
    labels: Tensor,
    labelled: Tensor | None,
    problem_type: ProblemType,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return each exit's own loss without a teacher, meaned over the texts that have a label, 0 where none has.

    Args:
        logits: [B, M, C].
        labels: as in `layer_losses`; anything where there is none.
        labelled: [B] 1 where the text has a label; None where all have.
        problem_type: of the model.
        class_weights: [C], as in `row_losses`.

    Returns:
        [M] losses.
    """
    each = row_losses(logits, labels, problem_type, class_weights)
    if labelled is None:
        return each.mean(0)
    counts = labelled.to(each.dtype)
    return (each * counts[:, None]).sum(0) / counts.sum().clamp(min=1)


def depth_distance(pooled: Tensor) -> Tensor:
    """Return the mean over texts and exits before the last of `1 - cosine(pooled, last pooled)`, computed in fp32.

    The last exit is not pulled: every depth is to approach the final state, not the final state every depth (LEAP,
    arXiv 2605.01058). With one exit there is nothing to pull, and it is 0.

    Args:
        pooled: [B, M, H].
    """
    early, last = pooled[:, :-1].float(), pooled[:, -1:].detach().float()
    return (1 - F.cosine_similarity(early, last, dim=-1)).sum() / max(early.shape[0] * early.shape[1], 1)
