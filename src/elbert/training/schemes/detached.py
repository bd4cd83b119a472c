"""Every layer learns from its own exit alone."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from elbert.errors import UsageError
from elbert.training.schemes.base import LossScheme


class DetachedScheme(LossScheme):
    """`L = Σ_i L_i`, and the loss of exit i reaches the layers behind exit i − 1 only.

    Between two exits the state is detached, so that exits don't pull at the same weights. Use it where the first exits
    are what counts: the last ones lose, the more so the larger the data. Layers need weights of their own: where they
    share them every exit pulls at all of them anyway.
    """

    name = "detached"
    summary = "the loss of an exit reaches the layers since the exit before only (SWEET)"
    citation = "Rotem et al., Finding the SWEET Spot, ACL 2023, arXiv 2306.02307"
    staged: ClassVar[bool] = True

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        self.fix(torch.ones(num_layers))

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model, and let it detach its states between layers.

        Raises:
            UsageError: its layers or heads share their weights.
        """
        super().begin(model, steps)
        layers = {id(step) for step in model.family.steps(model.backbone)}
        if len(layers) < self.num_layers or (model.exit_heads is None and self.num_layers > 1):
            raise UsageError(
                f"scheme {self.name!r} needs layers and heads of the exits' own, which this model shares: take an "
                "encoder such as BERT and add --set heads=full, or take another scheme"
            )
        model.detached = True
