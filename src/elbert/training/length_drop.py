"""LengthDrop: in every step the model also runs on ever fewer tokens, and learns to say there what it says on all.

Source: Kim and Cho, "Length-Adaptive Transformer" (arXiv 2010.07003). What is our reading: tokens are dropped behind a
layer, where the engine drops them, not between its attention and its feed-forward part; every exit learns from itself,
for texts leave by any; no layer is left out besides, as exits save those; one schedule is drawn for a batch, in shares,
so that each row rounds up by itself. Schedules are then found by `elbert calibrate --tokens`, not by evolution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from elbert.errors import UsageError
from elbert.exits.tokens import TokenSchedule
from elbert.modeling import MultiExitModel
from elbert.tasks import Task

# Random schedules of a step, beside the shortest.
_DRAWN = 2


def check_can_drop(model: MultiExitModel) -> None:
    """Refuse a model that can't run on fewer tokens behind a layer.

    Raises:
        UsageError: its layers look at distances between tokens, or there is but one.
    """
    if model.num_layers < 2:
        raise UsageError("length_drop: the model has 1 layer, behind which none comes that could run on fewer tokens")
    if model.weights().knows_distances:
        raise UsageError(
            "length_drop: the model's layers look at distances between tokens; take a BERT, ALBERT, RoBERTa or ELECTRA"
        )


def sandwich(num_layers: int, rate: float) -> list[TokenSchedule]:
    """Return the schedules of one step: the shortest that there is, and two drawn between it and all tokens.

    Behind every layer between 1 - rate and all of what the layer before left is kept.

    Args:
        num_layers: M, at least 2.
        rate: greatest share that a layer drops, in (0, 1).
    """
    # Drawn on the CPU, from the generator that a resumed run takes up again.
    drops = torch.rand(_DRAWN, num_layers - 1, dtype=torch.float64)
    every = 1 - rate * torch.cat([torch.ones(1, num_layers - 1, dtype=torch.float64), drops])
    rows = every.cumprod(1).tolist()
    return [TokenSchedule(tuple(enumerate(kept, start=1))) for kept in rows]


def with_shortened(loss: Tensor, whole: Tensor, shortened: list[Tensor], task: Task) -> Tensor:
    """Return the loss of a step: that of all tokens, and how far each shortened pass is from it, all alike.

    How far is KL(shortened ‖ all), in this direction as in the paper's code, with the latter held still; meaned over
    texts and exits. For values it is the squared error.

    Args:
        loss: of the pass with all tokens, a scalar.
        whole: [B, M, C] its logits.
        shortened: [B, M, C] logits of each other pass.
        task: of the model.
    """
    still = whole.detach().float()
    apart = [task.divergence(still, each.float(), 1.0).mean() for each in shortened]
    return torch.stack([loss, *apart]).mean()
