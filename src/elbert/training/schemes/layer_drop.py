"""Layers are left out at random in training, so that a model keeps working without some of them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from elbert.training.schemes.base import LossScheme, check_number


class LayerDropScheme(LossScheme):
    """`L = L_M`, and every layer is skipped with probability `rate`, for a whole batch, in every pass of training.

    The state before a skipped layer goes to the next one as it is. What comes of it can be cut afterwards, to every
    other layer for example, and is the static rival of early exits: the same fewer layers for every text. Layers that
    are shared are run less often instead. Early exits learn nothing here.

    Args:
        num_layers: exits, M.
        rate: share of the layers that a batch leaves out, from 0 to less than 1.
    """

    name = "layer_drop"
    summary = "only the last layer's loss counts, and layers are left out at random, to be cut later (LayerDrop)"
    citation = "Fan et al., Reducing Transformer Depth on Demand with Structured Dropout, ICLR 2020, arXiv 1909.11556"
    staged: ClassVar[bool] = True

    def __init__(self, num_layers: int, *, rate: float = 0.2) -> None:
        super().__init__(num_layers)
        self.rate = check_number(self.name, "rate", rate, 0, 0.99)
        self.fix(torch.eye(num_layers)[-1])

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model, and let it leave out layers while it trains."""
        super().begin(model, steps)
        model.layer_drop = self.rate
