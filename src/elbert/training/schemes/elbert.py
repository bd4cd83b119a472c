"""The paper's scheme: one trainable weight per layer, their sum held at M."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elbert.training.schemes.base import LossScheme, check_number


class ElbertScheme(LossScheme):
    """`L = Σ_i w_i L_i` with `w_i = σ(t_i)` for i < M and `w_M = M − Σ_{i<M} σ(t_i)`; every t_i starts at 4.

    Use it to train as published. On long runs know its weakness: `∂L/∂t_i = (L_i − L_M) σ'(t_i)`, the last layer is
    nearly always the better one, so every w_i with i < M drifts towards 0 and the early exits starve;
    `elbert_balanced` mends that.

    Args:
        init: every t_i at the start; 4 makes the weights almost equal.
        learning_rate: of the t_i, 1e-2 as in the authors' code.
    """

    name = "elbert"
    summary = "one trainable weight per layer, summing to the number of layers (the paper's)"
    citation = "Xie et al., ELBERT, ICASSP 2021, arXiv 2107.00175"

    def __init__(self, num_layers: int, *, init: float = 4.0, learning_rate: float = 1e-2) -> None:
        super().__init__(num_layers)
        self.init = check_number(self.name, "init", init, -20.0, 20.0)
        self.learning_rate: float = check_number(self.name, "learning_rate", learning_rate, 0.0)
        self.logits = nn.Parameter(torch.full((num_layers - 1,), self.init))  # t, [M - 1]

    def weights(self) -> Tensor:
        """Return w, [M]; they sum to M."""
        early = torch.sigmoid(self.logits)
        return torch.cat([early, (self.num_layers - early.sum()).unsqueeze(0)])
