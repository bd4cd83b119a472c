"""A classifier over the states so far and a guess of those to come is trained along, and says when a text may leave."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elbert.training.schemes.second import SecondOpinion


class PastFutureScheme(SecondOpinion):
    """`L = ½ (Σ_i i (L_i + L(z_i)) / Σ_i i + mean_{i<M} (1 − cos(sg(mean_{k>i} c_k), tanh(W_i c_i))))`.

    z_i = 2λ ⊙ A P_i + (2 − 2λ) ⊙ A F_i + b as in the policy `past_future`, which the maps, the classifier and the gate
    are saved as. Earlier states are held still in P_i, as in the authors' code. The paper has a map for every later
    state and a matrix a layer, no loss of the exits by themselves, and holds the lowest layers still at random at first
    (our reading leaves that out). Use it for models that are to leave by `past_future`.
    """

    name = "past_future"
    summary = "exits, and a classifier over past states and a guess of later ones, learn together (after GPFEE)"
    citation = "Liao et al., A Global Past-Future Early Exit Method, NAACL 2021 (our reading)"

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        weights = torch.arange(1.0, num_layers + 1)
        self.fix(weights / weights.sum() / 2)

    def build(self, hidden_size: int) -> None:
        """Make the classifier, the gate and the maps; a map begins as a guess that nothing changes."""
        super().build(hidden_size)
        self.gate = nn.Parameter(torch.zeros(self.num_labels, hidden_size))
        self.ahead = nn.Parameter(torch.eye(hidden_size).repeat(self.num_layers - 1, 1, 1))

    def guesses(self, pooled: Tensor) -> Tensor:
        """Return what exits before the last take the mean of the later states for, [B, M − 1, H]."""
        return torch.tanh(torch.einsum("beh,eoh->beo", pooled[:, :-1], self.ahead))

    def opinions(self, pooled: Tensor) -> Tensor:
        """Return what the classifier says of past and future after every layer."""
        layers = self.num_layers
        run = torch.arange(1, layers + 1, device=pooled.device)[:, None]
        before = F.pad(pooled, (0, 0, 1, 0))[:, :-1].detach().cumsum(1)
        past = before + pooled
        future = F.pad(self.guesses(pooled), (0, 0, 0, 1)) * (layers - run) / layers
        balance = torch.sigmoid(torch.tanh(past / run) @ self.gate.T)
        if layers == 1:
            return past @ self.weight.T + self.bias
        return 2 * balance * (past @ self.weight.T) / layers + (2 - 2 * balance) * (future @ self.weight.T) + self.bias

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:  # noqa: ARG002
        """Return the weighed losses of exits and classifier, and how far the guesses are from what came."""
        if output is None or labels is None:
            return (self.fixed * layer_losses).sum()
        pooled = output.pooled.float()
        said = self.task.exit_losses(self.opinions(pooled), labels).mean(0)
        left = torch.arange(self.num_layers - 1, 0, -1, device=pooled.device)[:, None]
        later = pooled.detach().flip(1).cumsum(1).flip(1)[:, 1:] / left
        apart = 1 - F.cosine_similarity(self.guesses(pooled), later, dim=-1)
        return (self.fixed * (layer_losses + said)).sum() + apart.sum() / max(apart.numel(), 1) / 2

    def learnt(self) -> dict[str, Tensor]:
        """Return the maps, the classifier and the gate."""
        return {"ahead": self.ahead, "weight": self.weight, "bias": self.bias, "gate": self.gate}
