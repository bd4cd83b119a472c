"""The exits learn what the last layer says, over a backbone that is held still."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from elbert.training.schemes.staged import FrozenScheme


class SelfDistillationScheme(FrozenScheme):
    """`L = L_M` for the first stage; then `L = Σ_{i<M} KL(p_i ‖ p_M)` with the backbone held still.

    Use it where the early answers should be the full depth's, right or wrong. The second stage looks at no label, so
    texts that have none teach the exits; in the first they count nothing. For values the divergence is the squared
    difference. Exits need heads of their own.
    """

    name = "self_distillation"
    summary = "the backbone is fine-tuned, then held still while the exits learn the last one's answers (FastBERT)"
    citation = "Liu et al., FastBERT, ACL 2020, arXiv 2004.02178"

    without_labels: ClassVar[bool] = True

    def later(self, layer_losses: Tensor, output: Any, labels: Tensor | None) -> Tensor:
        """Return how far the exits' answers are from the last one's."""
        del layer_losses, labels
        logits = output.logits.float()
        # Theirs and mine change places: FastBERT's divergence is the student's from the teacher.
        return self.task.divergence(logits[:, -1:].detach(), logits[:, :-1], 1.0).mean(0).sum()
