"""The loss of every exit, which a loss scheme then weighs. Holds no scheme itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from elbert.results import ProblemType


def layer_losses(logits: Tensor, labels: Tensor, problem_type: ProblemType) -> Tensor:
    """Return each exit's own loss, meaned over the batch, computed in fp32.

    Args:
        logits: [B, M, C].
        labels: [B] class indices (single label), [B, C] of 0 and 1 (multi-label), [B] or [B, C] values (regression).
        problem_type: cross-entropy, binary cross-entropy, or squared error.

    Returns:
        [M] losses.
    """
    batch, exits, classes = logits.shape
    logits = logits.float()
    if problem_type == "single_label_classification":
        targets = labels.view(batch, 1).expand(batch, exits)
        return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(0)
    values = labels.to(logits.dtype).view(batch, 1, classes).expand_as(logits)
    if problem_type == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, values, reduction="none").mean((0, 2))
    return F.mse_loss(logits, values, reduction="none").mean((0, 2))
