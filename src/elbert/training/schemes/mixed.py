"""The backbone is fine-tuned first, then everything together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elbert.training.schemes.staged import StagedScheme


class MixedScheme(StagedScheme):
    """`L = L_M` for the first stage, then `L = Σ_i L_i`.

    Use it where there are epochs enough for both: the study it comes from found it better than either alone.

    Args:
        num_layers: exits, M.
        first: share of the steps in the first stage.
    """

    name = "mixed"
    summary = "the backbone is fine-tuned, then all exits jointly with it"
    citation = "Kubaty et al., How to Train Your Multi-Exit Model?, 2024, arXiv 2407.14320"

    def __init__(self, num_layers: int, *, first: float = 0.5) -> None:
        super().__init__(num_layers, first=first)
        self.fix(torch.ones(num_layers))

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:  # noqa: ARG002
        """Return the loss of the stage that the step is in."""
        return layer_losses.sum() if self.second(step) else layer_losses[-1]
