"""A layer counts where texts really leave, more and more so as training goes on."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from elbert.training.schemes.base import LossScheme, check_number


class CoseeScheme(LossScheme):
    """`L = mean over K thresholds and texts of Σ_i w_i L_i`, w_i = softmax_i(−β_t |i − e|), e where a text would leave.

    The signal is u_i = 1 / (1 + Σ_j exp z_i(j)), the policy `energy`'s by another name; a text leaves where it is below
    the threshold. Thresholds are drawn evenly from the range that signals had so far (our reading: the paper's range is
    the epoch before's). β_t = β · step / steps, so all layers count alike at the start. To that comes `calibration`
    times the mean over layers of max(0, u(right) − u(wrong) + margin) of mean signals, so that a signal tells right
    from wrong. For single label only. Use it for models that are to leave early by their energy at any budget.

    Args:
        thresholds: K, drawn anew in every step.
        sharpness: β, at the end of training.
        calibration: what the signal's own term counts.
        margin: how far apart right and wrong signals have to be.
    """

    name = "cosee"
    summary = "a layer counts where texts would leave at drawn thresholds; the signal learns to tell right (COSEE)"
    citation = "He et al., COSEE, AAAI 2025, arXiv 2412.13236"
    staged: ClassVar[bool] = True
    reads_one_label = "reads which label is right"
    low: Tensor
    high: Tensor

    def __init__(
        self,
        num_layers: int,
        *,
        thresholds: int = 5,
        sharpness: float = 10.0,
        calibration: float = 0.1,
        margin: float = 0.3,
    ) -> None:
        super().__init__(num_layers)
        self.thresholds = int(check_number(self.name, "thresholds", thresholds, 1, 1000))
        self.sharpness = check_number(self.name, "sharpness", sharpness, 0.0)
        self.calibration = check_number(self.name, "calibration", calibration, 0.0)
        self.margin = check_number(self.name, "margin", margin, 0.0)
        self.register_buffer("low", torch.ones(()))
        self.register_buffer("high", torch.zeros(()))
        self.fix(torch.full((num_layers,), 1 / num_layers))

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:
        """Return the mean weighed loss of the batch, and the signal's own."""
        if output is None or labels is None:
            return (self.fixed * layer_losses).sum()
        logits = output.logits.float()
        signal = torch.sigmoid(-torch.logsumexp(logits, -1))  # [B, M]
        losses = self.task.exit_losses(logits, labels)
        weights = self._weights(signal.detach(), step)
        wrong = logits.argmax(-1) != labels.long()[:, None]
        return (weights * losses).sum(1).mean() + self.calibration * self._unlike(signal, wrong)

    def _weights(self, signal: Tensor, step: int) -> Tensor:
        """Return w, [B, M], meaned over the drawn thresholds."""
        with torch.no_grad():
            self.low.copy_(torch.minimum(self.low, signal.min()))
            self.high.copy_(torch.maximum(self.high, signal.max()))
            drawn = self.low + (self.high - self.low) * torch.rand(self.thresholds, device=signal.device)
        layers = torch.arange(self.num_layers, device=signal.device)
        leaves = signal[:, None] < drawn[:, None]  # [B, K, M]
        leaves[..., -1] = True
        exits = leaves.int().argmax(-1)  # the first
        sharpness = self.sharpness * step / max(self.steps, 1)
        return torch.softmax(-sharpness * (layers - exits[..., None]).abs().float(), -1).mean(1)

    def _unlike(self, signal: Tensor, wrong: Tensor) -> Tensor:
        """Return how far the mean signals of right answers are from lying `margin` below those of wrong ones."""
        count = wrong.sum(0)
        both = (count > 0) & (count < len(wrong))
        if not both.any():
            return signal.sum() * 0
        bad = (signal * wrong).sum(0) / count.clamp(min=1)
        good = (signal * ~wrong).sum(0) / (len(wrong) - count).clamp(min=1)
        return torch.relu(good - bad + self.margin)[both].mean()
