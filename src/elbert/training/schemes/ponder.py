"""A chance of leaving is learnt along with the model, and a layer counts as often as texts leave there."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.exits import ExitPolicy, make
from elbert.training.schemes.base import LossScheme, check_number
from elbert.training.schemes.unit import UnitAlong


class PonderScheme(UnitAlong, LossScheme):
    """`L = mean over texts of Σ_i P(i) L_i + pull · KL(prior ‖ P)`, P(i) = λ_i Π_{k<i} (1 − λ_k), λ_M = 1.

    λ_i = σ(w · [c_i ; c_{i-1}] + b), c_i the pooled state of exit i, c_0 = 0: the linear option of the authors' code,
    where the paper has three layers. The prior is geometric, its last share takes the rest. The divergence's direction
    is their code's. The unit is saved with the model as the policy `q_exit`. Use it for models that are to leave by
    `q_exit`.

    Args:
        prior: the share of texts, of those still there, that the prior lets leave at each layer.
        pull: of P to the prior.
    """

    name = "ponder"
    summary = "a layer counts as often as a unit, learnt along, lets texts leave there (PALBERT)"
    citation = "Balagansky and Gavrilov, PALBERT, NeurIPS 2022, arXiv 2204.03276"
    staged: ClassVar[bool] = True
    states: ClassVar[int] = 2

    def __init__(self, num_layers: int, *, prior: float = 0.1, pull: float = 0.5) -> None:
        super().__init__(num_layers)
        self.prior = check_number(self.name, "prior", prior, 1e-6, 1 - 1e-6)
        self.pull = check_number(self.name, "pull", pull, 0.0)
        shares = self.prior * (1 - self.prior) ** torch.arange(num_layers)
        shares[-1] = 1 - shares[:-1].sum()
        self.fix(shares)

    def start(self) -> float:
        """Return b before training, where λ is the prior."""
        return float(torch.logit(torch.tensor(self.prior)))

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:  # noqa: ARG002
        """Return the mean expected loss and the pull."""
        if output is None or labels is None:
            return (self.fixed * layer_losses).sum()
        pooled = output.pooled.float()
        both = torch.cat([pooled, F.pad(pooled, (0, 0, 1, 0))[:, :-1]], -1)[:, :-1]  # [B, M - 1, 2H]
        score = both @ self.weight + self.bias
        go, stay = F.logsigmoid(score), F.logsigmoid(-score)
        chances = F.pad(stay.cumsum(1), (1, 0)) + F.pad(go, (0, 1))  # log P, [B, M]
        losses = self.task.exit_losses(output.logits.float(), labels)
        expected = (chances.exp() * losses).sum(1)
        distance = (self.fixed * (self.fixed.log() - chances)).sum(1)
        return (expected + self.pull * distance).mean()

    def policies(self) -> dict[str, ExitPolicy]:
        """Return `q_exit` with the unit."""
        return {"q_exit": make("q_exit").with_tensors(self.unit())}
