"""The exits learn from labels and from the last layer, and their gradient may not work against the last layer's."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from elbert.training.schemes.base import LossScheme, check_number, dot, encoder_matrices, gradient


class GradientRegularisedScheme(LossScheme):
    """`L = L_M + Σ_{i<M} [(1 − γ) L_i + γ T² KL(p_M ‖ p_i)]`, p at temperature T, with the gradients kept apart.

    g_L is the gradient of L_M, g_E that of the rest, both over the encoder's weight matrices. Where ⟨g_E, g_L⟩ < 0, g_E
    loses its part along g_L. That part is a multiple of g_L, so that the step is one of `(1 − a) L_M + rest`, with the
    number a = ⟨g_E, g_L⟩ / ‖g_L‖². It costs two further backward passes. The authors' code changes the roles for all
    tasks but MNLI and QQP, leaves the last layer out, and means the divergence over the classes; here the formula is
    the paper's, and all layers take part, since shared layers have no last one (our reading).

    Args:
        gamma: the last exit's part of what the others learn.
        temperature: at which they learn it.
        projection: share of the conflicting part that is taken away; 0 keeps it, at the cost of any scheme.
    """

    name = "gradient_regularised"
    summary = "self-distillation, with the exits' gradient kept from working against the last layer's (RomeBERT)"
    citation = "Geng et al., RomeBERT, 2021, arXiv 2101.09755"
    staged: ClassVar[bool] = True

    def __init__(
        self, num_layers: int, *, gamma: float = 0.9, temperature: float = 3.0, projection: float = 1.0
    ) -> None:
        super().__init__(num_layers)
        self.gamma = check_number(self.name, "gamma", gamma, 0.0, 1.0)
        self.temperature = check_number(self.name, "temperature", temperature, 0.1)
        self.projection = check_number(self.name, "projection", projection, 0.0, 1.0)
        self.fix(torch.cat([torch.full((num_layers - 1,), 1 - self.gamma), torch.ones(1)]))
        self._matrices: list[Tensor] = []

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model, and note the encoder's matrices."""
        super().begin(model, steps)
        self._matrices = encoder_matrices(model)

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:  # noqa: ARG002
        """Return the loss whose gradient is the regularised one; its value is the loss itself."""
        logits = output.logits.float()
        taught = self.task.divergence(logits[:, :-1], logits[:, -1:].detach(), self.temperature).mean(0).sum()
        last, rest = layer_losses[-1], (1 - self.gamma) * layer_losses[:-1].sum() + self.gamma * taught
        excess = self.projection * self._against(last, rest) * last
        return last + rest - (excess - excess.detach())  # takes a gradient away and no value

    def _against(self, last: Tensor, rest: Tensor) -> float:
        """Return a = ⟨g_E, g_L⟩ / ‖g_L‖² where it is below 0, else 0."""
        if not self.projection or not self._matrices or not rest.requires_grad:
            return 0.0
        own, others = (gradient(loss, self._matrices) for loss in (last, rest))
        size = dot(own, own)
        return min(dot(own, others) / size, 0.0) if size > 0 else 0.0
