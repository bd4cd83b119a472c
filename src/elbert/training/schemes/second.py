"""What schemes share that train a second opinion along with the model: a classifier over several layers' states."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from elbert.exits import ExitPolicy, make
from elbert.training.schemes.base import LossScheme


class SecondOpinion(LossScheme):
    """Base of the schemes whose parameters become the weights of an exit policy of the same name.

    They are matrices, so a checkpoint and the policy's tensors hold them, and `elbert.json` does not.
    """

    staged: ClassVar[bool] = True

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        self.num_labels = 2  # until it meets the model

    def build(self, hidden_size: int) -> None:
        """Make the classifier: nothing is said before it has learnt."""
        self.weight = nn.Parameter(torch.zeros(self.num_labels, hidden_size))
        self.bias = nn.Parameter(torch.zeros(self.num_labels))

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model, and make the classifier for its classes."""
        self.num_labels = int(model.num_labels)
        super().begin(model, steps)

    @abstractmethod
    def opinions(self, pooled: Tensor) -> Tensor:
        """Return what is said of every text after every layer, logits [B, M, C], from pooled states [B, M, H]."""

    @abstractmethod
    def learnt(self) -> dict[str, Tensor]:
        """Return the weights of the policy, by name."""

    def policies(self) -> dict[str, ExitPolicy]:
        """Return the policy of the scheme's name, with what was learnt."""
        tensors = {name: values.detach().cpu().numpy() for name, values in self.learnt().items()}
        return {self.name: make(self.name).with_tensors(tensors)}

    def to_dict(self) -> dict[str, Any]:
        """Return the scheme as JSON, without the matrices."""
        return {**super().to_dict(), "state": {}}
