"""What schemes share that train one linear unit over pooled states along with the model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class UnitAlong(nn.Module):
    """Beside a `LossScheme`: the unit w · states + b, which becomes the weights of an exit policy.

    Attributes:
        states: pooled states it reads, one behind another.
    """

    states: ClassVar[int] = 1
    hidden_size: int | None

    def start(self) -> float:
        """Return b before training: 0, so that a sigmoid of the unit is undecided."""
        return 0.0

    def build(self, hidden_size: int) -> None:
        """Make the unit, as `LossScheme.build` says."""
        self.hidden_size = hidden_size
        self.weight = nn.Parameter(torch.zeros(self.states * hidden_size))
        self.bias = nn.Parameter(torch.tensor(self.start()))

    def unit(self) -> dict[str, NDArray[np.float32]]:
        """Return `weight` and `bias` as a policy takes them."""
        return {"weight": self.weight.detach().cpu().numpy(), "bias": self.bias.detach().cpu().numpy()}
