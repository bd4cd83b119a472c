"""Every layer learns a gate that lets texts skip it; the exits' own heads learn afterwards, on layers that are run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from elbert.errors import UsageError
from elbert.exits import ExitPolicy, make
from elbert.exits.gates import SkipGates
from elbert.training.schemes.base import check_number
from elbert.training.schemes.staged import FrozenScheme

# Where gates begin: σ(-2) = 0.12 of a layer's input goes past it.
_START = -2.0


class SkipGatesScheme(FrozenScheme):
    """`L = L_M + price · mean 1 / Σ_i g_i` for the first stage; then `L = Σ_{i<M} L_i`, of the texts that run layer i.

    h_i = g_i h_{i-1} + (1 − g_i) E_i(h_{i-1}), g_i = σ(w_i · mean(h_{i-1}) + b_i), for layers 2 to M − 1. In the first
    half of the first stage gates mix; from then on they are 0 or 1, with the gradient of the mix (straight-through). In
    the second stage the backbone and the gates are held still while the exits' own heads learn. The gates are saved
    with the model as the policy `gated`: `entropy` that skips too; any rule takes them by `gates`.

    What the paper's gate is made of, and its λ, could not be had; the linear unit, 0.1 for `price`, and leaving out the
    contrastive term between the states of neighbouring layers, are our reading. Use it where exits save nothing because
    early ones are never sure, but layers may be left out. At full depth without gates a model trained so runs layers
    that it has learnt to do without. Exits need heads of their own.

    Args:
        first: share of the steps in the first stage; the paper's is 5 epochs of 9.
        price: of running layers.
    """

    name = "skip_gates"
    summary = (
        "each layer learns a gate that lets texts skip it, then the exits' own heads learn (SmartBERT, our reading)"
    )
    citation = "Hu et al., SmartBERT: A Promotion of Dynamic Early Exiting Mechanism, IJCAI 2023, arXiv 2303.09266"

    learning_rate = 1e-3

    def __init__(self, num_layers: int, *, first: float = 5 / 9, price: float = 0.1) -> None:
        super().__init__(num_layers, first=first)
        self.price = check_number(self.name, "price", price, 0.0)
        if num_layers < 3:
            raise UsageError(
                f"scheme {self.name!r} lets texts skip layers between the first and the last, and the model has "
                f"{num_layers}; take a model of 3 or more"
            )
        self._hard = False
        self._said: dict[int, Tensor] = {}  # what the gates said in the last pass, [B] by layer

    def build(self, hidden_size: int) -> None:
        """Make the gates."""
        weights = torch.zeros(self.num_layers - 2, hidden_size + 1)
        weights[:, -1] = _START
        self.gates = nn.Parameter(weights)

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model, and let gates stand before its layers."""
        super().begin(model, steps)
        model.gate = self.gate

    def before_step(self, model: Any, step: int) -> None:
        """Hold backbone and gates still in the second stage, and let gates be hard once the mixing is over."""
        super().before_step(model, step)
        self.gates.requires_grad_(not self.second(step))
        self._hard = step >= self.first * self.steps / 2

    def gate(self, layer: int, states: Tensor) -> Tensor:
        """Return how much goes past a layer, [B]; what is no training is hard, as running is.

        Args:
            layer: 2 to M - 1.
            states: [B, H] means of the states before it.
        """
        unit = self.gates[layer - 2]
        with torch.autocast(states.device.type, enabled=False):
            soft = torch.sigmoid(states.float() @ unit[:-1] + unit[-1])
        self._said[layer] = soft
        if self._hard or not torch.is_grad_enabled():
            return (soft >= SkipGates().threshold).float() + soft - soft.detach()
        return soft

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:
        """Return the last layer's loss and the price in the first stage, that of the exits in the second."""
        loss = super().forward(layer_losses, output, labels, step)
        if self.second(step) or not self._said:
            return loss
        total = torch.stack([self._said[layer] for layer in sorted(self._said)]).sum(0)
        return loss + self.price * (1 / total.clamp(min=1e-3)).mean()

    def later(self, layer_losses: Tensor, output: Any, labels: Tensor | None) -> Tensor:
        """Return the exits' losses, each the mean over the texts that run its layer."""
        if labels is None or output is None:
            return super().later(layer_losses, output, labels)
        losses = self.task.exit_losses(output.logits.float(), labels)[:, :-1]  # [B, M - 1]
        runs = torch.ones_like(losses)
        for layer, said in self._said.items():
            runs[:, layer - 1] = (said < SkipGates().threshold).float()
        return ((losses * runs).sum(0) / runs.sum(0).clamp(min=1)).sum()

    def to_dict(self) -> dict[str, Any]:
        """Return the scheme as JSON, without the gates, which are a policy's."""
        return {**super().to_dict(), "state": {}}

    def policies(self) -> dict[str, ExitPolicy]:
        """Return `gated`, `entropy` with the gates."""
        return {"gated": make("entropy", gates=SkipGates().with_weights(self.gates.detach().cpu().numpy()))}
