"""Exits teach one another, and what each of them counts is learnt on texts that the model does not learn from."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from elbert.training.schemes.base import LossScheme, check_number, dot, encoder_matrices, gradient


class CrossLevelScheme(LossScheme):
    """`L = Σ_i w_i (L_i + mean_{j≠i} T² KL(p_j ‖ p_i))`, w = M · softmax(a), a learnt by looking a step ahead.

    Every `every` steps a batch is halved. A step on one half would change the plain Σ_i L_i of the other by
    −⟨∇Σ_i L_i, ∇ℓ_k⟩ for every unit of w_k, ℓ_k what exit k learns; a follows that, and the halves change places. The
    gradients are over the encoder's weight matrices, taken before the step, and cost M + 1 backward passes each time.
    LeeBERT's parametrisation, split and temperature could not be had: all of this is our reading. Use it where nobody
    knows what exits should count.

    Args:
        learning_rate: of a.
        temperature: at which exits teach one another.
        every: steps between two looks ahead.
    """

    name = "cross_level"
    summary = "exits teach one another; their weights are learnt by looking a step ahead on other texts (LeeBERT)"
    citation = "Zhu, LeeBERT: Learned Early Exit for BERT with Cross-Level Optimization, ACL 2021 (our reading)"
    staged: ClassVar[bool] = True

    def __init__(
        self, num_layers: int, *, learning_rate: float = 1e-2, temperature: float = 2.0, every: int = 10
    ) -> None:
        super().__init__(num_layers)
        self.learning_rate: float = check_number(self.name, "learning_rate", learning_rate, 0.0)
        self.temperature = check_number(self.name, "temperature", temperature, 0.1)
        self.every = int(check_number(self.name, "every", every, 1))
        self.logits = nn.Parameter(torch.zeros(num_layers))  # a
        self._matrices: list[Tensor] = []

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model, and note the encoder's matrices."""
        super().begin(model, steps)
        self._matrices = encoder_matrices(model)

    def weights(self) -> Tensor:
        """Return w, [M]; they sum to M."""
        return self.num_layers * self.logits.softmax(0)

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:
        """Return Σ w_i ℓ_i: its gradient reaches the model; a gets the look ahead's instead."""
        if output is None or labels is None:
            return (self.weights() * layer_losses).sum()
        logits, weights = output.logits.float(), self.weights()
        plain = self.task.exit_losses(logits, labels)  # [B, M]
        taught = plain + self._mutual(logits)
        loss = (weights.detach() * taught.mean(0)).sum()
        if step % self.every or len(plain) < 2 or not self._matrices or not loss.requires_grad:
            return loss
        half = torch.arange(len(plain), device=plain.device) % 2 == step // self.every % 2
        gain = (weights * self._agreement(taught[half].mean(0), plain[~half].sum(1).mean())).sum()
        return loss - (gain - gain.detach())  # adds a gradient and no value

    def _mutual(self, logits: Tensor) -> Tensor:
        """Return how far every exit is from the mean of the others' answers, [B, M]."""
        exits = self.num_layers
        total = sum(
            self.task.divergence(logits, logits[:, [teacher]].detach(), self.temperature) for teacher in range(exits)
        )
        return torch.as_tensor(total) / max(exits - 1, 1)  # an exit is no distance from itself

    def _agreement(self, terms: Tensor, aim: Tensor) -> Tensor:
        """Return ⟨∇aim, ∇term⟩ of every term, [M]."""
        wanted = gradient(aim, self._matrices)
        return torch.tensor([dot(wanted, gradient(term, self._matrices)) for term in terms], device=terms.device)
