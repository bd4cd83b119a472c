"""The answers of all exits are mixed, and the mixture learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elbert.exits import ExitPolicy, make
from elbert.training.schemes.base import check_number
from elbert.training.schemes.staged import StagedScheme
from elbert.training.schemes.unit import UnitAlong


class ActScheme(UnitAlong, StagedScheme):
    """`L = L_M` for the first stage; then `L = −log a_M(y) + price · Σ_i p_i`.

    a_i = p_{i-1} y_i + (1 − p_{i-1}) a_{i-1} mixes the exits' probabilities y_i, p_i = p_{i-1} σ(w · c_i + b), p_0 = 1,
    c_i the pooled state. The price is on p, as in DACT (one description of DACT-BERT has it on σ). The unit is saved
    with the model as the policy `halting`. For single label only. Use it for models that are to leave by `halting`.

    Args:
        price: of a layer's weight in the mixture.
    """

    name = "act"
    summary = "the exits' answers are mixed by a unit learnt along, and the mixture's loss counts (DACT-BERT)"
    citation = "Eyzaguirre et al., DACT-BERT, 2021, arXiv 2109.11745"
    reads_one_label = "mixes the probabilities of one label"

    def __init__(self, num_layers: int, *, first: float = 0.5, price: float = 5e-4) -> None:
        super().__init__(num_layers, first=first)
        self.price = check_number(self.name, "price", price, 0.0)
        self.fix(torch.ones(num_layers))

    def later(self, layer_losses: Tensor, output: Any, labels: Tensor | None) -> Tensor:
        """Return the loss of the mixed answers, and the price of the layers in them."""
        if labels is None:
            return layer_losses[-1]
        right = output.logits.float().softmax(-1).gather(2, labels.long()[:, None, None].expand(-1, self.num_layers, 1))
        halt = torch.sigmoid(output.pooled.float() @ self.weight + self.bias)  # [B, M]
        share, answer, shares = torch.ones_like(halt[:, 0]), torch.zeros_like(halt[:, 0]), torch.zeros_like(halt[:, 0])
        for layer in range(self.num_layers):
            answer = share * right[:, layer, 0] + (1 - share) * answer
            share = share * halt[:, layer]
            shares = shares + share
        return (-answer.clamp(min=1e-12).log() + self.price * shares).mean()

    def policies(self) -> dict[str, ExitPolicy]:
        """Return `halting` with the unit."""
        return {"halting": make("halting").with_tensors({**self.unit(), "layers": float(self.num_layers)})}
