"""The paper's trainable weights, kept from starving the early exits on long runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from elbert.training.schemes.base import check_number
from elbert.training.schemes.elbert import ElbertScheme

# Below this mean loss there is nothing left to balance; it only keeps the division finite.
_SMALLEST_LOSS = 1e-12


class ElbertBalancedScheme(ElbertScheme):
    """`L = Σ_i w_i L_i` with the paper's w, but t minimises `Σ_i w_i ℓ_i − pull · Σ_i log w_i`, ℓ_i = L_i / mean_j L_j.

    At rest `1/w_i = 1/w_M + (ℓ_i − ℓ_M) / pull`: a layer counts less the further its loss lies above the last one's,
    and none ever counts nothing, because ℓ_i ≤ M gives `w_i ≥ pull / (M + pull)`. Relative losses ℓ make that rest
    independent of how far training has come, so the weights settle where the paper's keep drifting. The model itself
    still learns from Σ w_i L_i alone, and Σ w_i = M as in the paper.

    Use it for anything longer than a few hundred steps.

    Args:
        init: every t_i at the start.
        learning_rate: of the t_i.
        pull: how strongly the weights are held together; 0 lets them go, large makes them equal.
    """

    name = "elbert_balanced"
    summary = "ELBERT's trainable weights with a pull that keeps early exits from starving on long runs"
    citation = "after Xie et al., ELBERT, ICASSP 2021, arXiv 2107.00175; the pull is this project's"

    def __init__(self, num_layers: int, *, init: float = 4.0, learning_rate: float = 1e-2, pull: float = 1.0) -> None:
        super().__init__(num_layers, init=init, learning_rate=learning_rate)
        self.pull = check_number(self.name, "pull", pull, 0.0)

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:  # noqa: ARG002
        """Return Σ w_i L_i: its gradient reaches the model; the t_i get the balanced one instead."""
        weights = self.weights()
        loss = (weights.detach() * layer_losses).sum()
        relative = layer_losses.detach() / layer_losses.detach().mean().clamp(min=_SMALLEST_LOSS)
        balance = (weights * relative).sum() - self.pull * weights.log().sum()
        return loss + (balance - balance.detach())  # adds a gradient and no value
