"""AdamW over float32 master weights while the network computes in the run's dtype, and the schedule of its rate.

In bfloat16 the network's own weights are rounded copies; gradients of micro-batches are summed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from elbert.pretraining.settings import PretrainSettings

# AdamW's state of one parameter.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class MasterWeights:
    """Float32 masters of a module's parameters, with one fused AdamW over them.

    Args:
        module: the network, on its device; it is cast to `dtype` in place once its weights have been copied.
        settings: decay and clipping.
        dtype: what the network computes in.
    """

    def __init__(self, module: nn.Module, settings: PretrainSettings, dtype: torch.dtype) -> None:
        self.parameters = dict(module.named_parameters())
        self.masters = {name: p.detach().float().clone() for name, p in self.parameters.items()}
        module.to(dtype)
        self.max_norm = settings.max_gradient_norm
        matrices = [master for master in self.masters.values() if master.ndim > 1]
        vectors = [master for master in self.masters.values() if master.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, settings.beta2), fused=True)

    @torch.no_grad()
    def collect(self, gradients: Sequence[Tensor | None]) -> None:
        """Add gradients, in the order of `parameters`, to the masters'; None for a parameter that took no part."""
        for master, gradient in zip(self.masters.values(), gradients, strict=True):
            if gradient is None:
                continue
            if master.grad is None:
                master.grad = gradient.float()
            else:
                master.grad += gradient

    def step(self, rate: float) -> None:
        """Clip, step at `rate`, and hand the new weights to the network."""
        nn.utils.clip_grad_norm_(list(self.masters.values()), self.max_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._publish()

    def state(self) -> dict[str, Tensor]:
        """Return masters and moments as flat named tensors."""
        tensors = {f"weights.{name}": master for name, master in self.masters.items()}
        for name, master in self.masters.items():
            for key, value in self.optimizer.state.get(master, {}).items():
                tensors[f"{key}.{name}"] = value
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        for name, master in self.masters.items():
            master.copy_(tensors[f"weights.{name}"])
            if f"step.{name}" in tensors:
                moments = {key: tensors[f"{key}.{name}"] for key in _MOMENTS}
                self.optimizer.state[master] = {key: value.to(master.device) for key, value in moments.items()}
        self._publish()

    @torch.no_grad()
    def _publish(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(self.masters[name])


def rate_at(done: float, peak: float, warm_up: float) -> float:
    """Return the learning rate: linear from 0 to `peak` over `warm_up`, then linear back to 0.

    Args:
        done: part of the run that is over, in [0, 1].
        peak: highest rate.
        warm_up: part of the run over which it rises, in [0, 1].
    """
    if done < warm_up:
        return peak * done / warm_up
    return peak * (1 - done) / (1 - warm_up) if warm_up < 1 else peak
