"""The last layer and all layers by turns, and a unit that learns how wrong an exit is."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from elbert.exits import ExitPolicy, make
from elbert.training.schemes.base import LossScheme
from elbert.training.schemes.unit import UnitAlong


class AlternateScheme(UnitAlong, LossScheme):
    """`L = L_M` in even steps, `L = Σ_i L_i + Σ_i (u_i − t_i)²` in odd ones.

    u_i = σ(w · c_i + b) is one unit over the pooled states of all exits, t_i whether exit i is wrong, for values
    |tanh(ŷ_i − y)|. Its error moves the encoder too. The unit is saved with the model as the policy `certainty`. Use it
    where full depth must not suffer: every second step is its own.
    """

    name = "alternate"
    summary = "the last layer and all of them by turns, with a unit that learns how wrong an exit is (BERxiT)"
    citation = "Xin et al., BERxiT, EACL 2021"
    staged: ClassVar[bool] = True

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        self.fix(torch.ones(num_layers))

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:
        """Return the loss of an even or an odd step."""
        if step % 2 == 0 or labels is None:
            return layer_losses[-1]
        error = torch.sigmoid(output.pooled.float() @ self.weight + self.bias)  # [B, M]
        return layer_losses.sum() + (error - self._wrong(output.logits, labels)).square().mean(0).sum()

    def _wrong(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return how wrong every exit is, [B, M] in [0, 1]."""
        wrong: Tensor = self.task.wrongness(self.task.probabilities(logits.detach().float()), labels)
        return wrong.float()

    def policies(self) -> dict[str, ExitPolicy]:
        """Return `certainty` with the unit."""
        return {"certainty": make("certainty").with_tensors(self.unit())}
