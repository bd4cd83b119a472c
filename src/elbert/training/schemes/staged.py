"""What schemes of two stages share: the last layer alone is fine-tuned first, then comes what the scheme is about."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from elbert.errors import UsageError
from elbert.training.schemes.base import LossScheme, check_number


class StagedScheme(LossScheme):
    """Base of the schemes of two stages; one learning rate schedule spans both.

    Args:
        first: share of the steps in which the last layer's loss alone counts.
    """

    staged: ClassVar[bool] = True

    def __init__(self, num_layers: int, *, first: float = 0.5) -> None:
        super().__init__(num_layers)
        self.first = check_number(self.name, "first", first, 0.0, 0.9)

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:
        """Return the last layer's loss in the first stage, that of `later` in the second."""
        return self.later(layer_losses, output, labels) if self.second(step) else layer_losses[-1]

    def later(self, layer_losses: Tensor, output: Any, labels: Tensor | None) -> Tensor:
        """Return the loss of one batch in the second stage: by default the weighed sum; arguments as in `forward`."""
        del output, labels
        return (self.fixed * layer_losses).sum()

    def whole(self, step: int) -> bool:
        """Tell whether the second stage has begun."""
        return step > self.first * self.steps

    def second(self, step: int) -> bool:
        """Tell whether the next step belongs to the second stage."""
        return step >= self.first * self.steps


class FrozenScheme(StagedScheme):
    """Base of those whose second stage trains the exits' own heads, over a backbone that stays as it is, head and all.

    In the second stage all exits but the last count.
    """

    def __init__(self, num_layers: int, *, first: float = 0.5) -> None:
        super().__init__(num_layers, first=first)
        self.fix(1 - torch.eye(num_layers)[-1])

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model.

        Raises:
            UsageError: its exits have no heads of their own.
        """
        super().begin(model, steps)
        if model.exit_heads is None:
            raise UsageError(
                f"scheme {self.name!r} trains heads of the exits' own over a backbone that stays as it is, and this "
                "model's exits share one head: add --set heads=full (or linear, mean)"
            )

    def before_step(self, model: Any, step: int) -> None:
        """Hold the backbone still in the second stage."""
        model.backbone.requires_grad_(not self.second(step))
