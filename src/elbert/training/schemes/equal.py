"""Every layer counts the same."""

from __future__ import annotations

import torch

from elbert.training.schemes.base import LossScheme


class EqualScheme(LossScheme):
    """`L = Σ_i L_i`: no weights, nothing to learn.

    Use it as the baseline that a cleverer scheme has to beat.
    """

    name = "equal"
    summary = "every layer's loss counts the same"
    citation = "Schwartz et al., The Right Tool for the Job, ACL 2020, arXiv 2004.07453"

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        self.fix(torch.ones(num_layers))
