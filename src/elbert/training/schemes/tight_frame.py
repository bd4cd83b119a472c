"""The exits' classifiers are fixed, all classes as far apart as they can be, and states learn to fall on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elbert.errors import UsageError
from elbert.training.schemes.base import check_number
from elbert.training.schemes.staged import FrozenScheme

_SEED = 0


class TightFrameScheme(FrozenScheme):
    """`L = L_M` for the first stage; then `L = Σ_{i<M} (M − i) L_i / Σ_{i<M} (M − i)` with the backbone held still.

    Every exit before the last classifies by `scale` · E, E = √(C / (C − 1)) · U (I − 11ᵀ / C) with U [H, C] random and
    orthonormal: an equiangular tight frame, the same at all of these exits, which nobody trains. Only their poolers
    learn. For one label a text. DREE's adapters beside the layers, its norm of the features and their unit length are
    left out, and `scale` stands in for the latter (our reading); so rules of confidence can be used with these heads,
    which with cosines for logits they can't. Exits need poolers of their own. Use it where classes are few and alike.

    Args:
        scale: length of a class's vector.
    """

    name = "tight_frame"
    summary = "exits with fixed classifiers, all classes equally far apart, over a backbone held still (after DREE)"
    citation = "Wang et al., DREE, Findings of ACL 2023 (our reading)"
    reads_one_label = "gives every class a direction of its own"

    def __init__(self, num_layers: int, *, first: float = 0.5, scale: float = 1.0) -> None:
        super().__init__(num_layers, first=first)
        self.scale = check_number(self.name, "scale", scale, 1e-3)
        left = torch.arange(num_layers - 1.0, -1.0, -1.0)
        self.fix(left / left.sum().clamp(min=1))

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model and fix the classifiers of its exits.

        Raises:
            UsageError: exits have no pooler of their own, texts have not one label each, or there are more classes than
                hidden units.
        """
        super().begin(model, steps)
        heads = model.exit_heads
        if heads.dense_weight is None or model.num_labels > model.config.hidden_size:
            raise UsageError(
                f"scheme {self.name!r} is for one of at most {model.config.hidden_size} labels a text and exits with "
                f"poolers of their own; given: {model.problem_type}, {model.num_labels} labels, heads {model.heads}: "
                "add --set heads=full or mean, or take another scheme"
            )
        frame = self.scale * tight_frame(model.num_labels, int(model.config.hidden_size))
        with torch.no_grad():
            heads.out_weight.copy_(frame.expand_as(heads.out_weight))
            heads.out_bias.zero_()
        heads.out_weight.requires_grad_(False)
        heads.out_bias.requires_grad_(False)


def tight_frame(classes: int, width: int) -> Tensor:
    """Return C vectors [C, H] of length 1, every two at the same angle, as far apart as C vectors can be.

    Args:
        classes: C, 2 or more.
        width: H, at least C.
    """
    random = torch.randn(width, classes, generator=torch.Generator().manual_seed(_SEED))
    basis, _ = torch.linalg.qr(random)
    centred = torch.eye(classes) - 1 / classes
    frame: Tensor = (classes / (classes - 1)) ** 0.5 * (basis @ centred).T
    return frame
