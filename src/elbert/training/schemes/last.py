"""The last layer alone counts: ordinary fine-tuning, without exits."""

from __future__ import annotations

import torch

from elbert.training.schemes.base import LossScheme


class LastScheme(LossScheme):
    """`L = L_M`: what everybody does who has no exits.

    Use it as the yardstick of what exits cost at full depth, and for a model that has only as many layers as it shall
    run. Its early exits have learnt nothing.
    """

    name = "last"
    summary = "only the last layer's loss counts: ordinary fine-tuning, the yardstick"
    citation = "Devlin et al., BERT, NAACL 2019, arXiv 1810.04805"

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        self.fix(torch.eye(num_layers)[-1])
