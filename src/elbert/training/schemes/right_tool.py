"""A classifier over a learned mix of all layers so far is trained along, and says when a text may leave."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from elbert.training.schemes.second import SecondOpinion


class RightToolScheme(SecondOpinion):
    """`L = Σ_i (L_i + L(A m_i + b))`, m_i = Σ_{k≤i} s_k c_k / Σ_{k≤i} s_k, s = softmax(a), c_k the pooled states.

    The classifier and the mix are saved with the model as the policy `right_tool`, with a temperature an exit that is
    learnt on the same logits held still: on training texts, so that it comes out too low where these are known by
    heart; `elbert calibrate --policy right_tool` fits all of them on other texts. The paper has a classifier and a mix
    an exit, over states before the pooler, at a few exits, and no loss of the exits by themselves (our reading). Use it
    for models that are to leave by `right_tool`.
    """

    name = "right_tool"
    summary = "exits, and a classifier over a learned mix of all layers so far, learn together (after Right Tool)"
    citation = "Schwartz et al., The Right Tool for the Job, ACL 2020, arXiv 2004.07453 (our reading)"

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        self.fix(torch.ones(num_layers))

    def build(self, hidden_size: int) -> None:
        """Make the classifier, the mix and the temperatures."""
        super().build(hidden_size)
        self.scores = nn.Parameter(torch.zeros(self.num_layers))  # a
        self.log_temperature = nn.Parameter(torch.zeros(self.num_layers))

    def opinions(self, pooled: Tensor) -> Tensor:
        """Return what the classifier says of the mix after every layer."""
        share = self.scores.softmax(0)
        mixed = (pooled * share[:, None]).cumsum(1) / share.cumsum(0)[:, None]
        return mixed @ self.weight.T + self.bias

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:  # noqa: ARG002
        """Return the exits' losses and the mixes'; the temperatures add a gradient and no value."""
        if output is None or labels is None:
            return layer_losses.sum()
        said = self.opinions(output.pooled.float())
        cooled = said.detach() / self.log_temperature.exp()[:, None]
        doubt = self.task.exit_losses(cooled, labels).mean(0).sum()
        return layer_losses.sum() + self.task.exit_losses(said, labels).mean(0).sum() + doubt - doubt.detach()

    def learnt(self) -> dict[str, Tensor]:
        """Return the mix, the classifier and the temperatures."""
        classifier = {"weight": self.weight, "bias": self.bias}
        return {"share": self.scores.softmax(0), **classifier, "temperature": self.log_temperature.exp()}
