"""A layer counts as much as it is deep."""

from __future__ import annotations

import torch

from elbert.training.schemes.base import LossScheme


class DepthWeightedScheme(LossScheme):
    """`L = Σ_i i·L_i / Σ_i i`: fixed weights that grow with depth.

    Use it for models that mostly leave late, or to compare with PABEE as published.
    """

    name = "depth_weighted"
    summary = "a layer's loss counts in proportion to its depth (PABEE)"
    citation = "Zhou et al., BERT Loses Patience, NeurIPS 2020, arXiv 2006.04152"

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        depth = torch.arange(1.0, num_layers + 1)
        self.fix(depth / depth.sum())
