"""The backbone is fine-tuned first, then everything together."""

from __future__ import annotations

import torch

from elbert.training.schemes.staged import StagedScheme


class MixedScheme(StagedScheme):
    """`L = L_M` for the first stage, then `L = Σ_i L_i`.

    Use it where there are epochs enough for both: the study it comes from found it better than either alone.
    """

    name = "mixed"
    summary = "the backbone is fine-tuned, then all exits jointly with it"
    citation = "Kubaty et al., How to Train Your Multi-Exit Model?, 2024, arXiv 2407.14320"

    def __init__(self, num_layers: int, *, first: float = 0.5) -> None:
        super().__init__(num_layers, first=first)
        self.fix(torch.ones(num_layers))
