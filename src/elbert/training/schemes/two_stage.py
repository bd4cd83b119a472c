"""The backbone is fine-tuned first, then the exits alone."""

from __future__ import annotations

from elbert.training.schemes.staged import FrozenScheme


class TwoStageScheme(FrozenScheme):
    """`L = L_M` for the first stage; then `L = Σ_{i<M} L_i` with the backbone held still.

    Use it where full depth must score what it would without exits: the exits cost it nothing. They read states that
    were made for the last layer only, so the early ones are weak. Exits need heads of their own.
    """

    name = "two_stage"
    summary = "the backbone is fine-tuned, then held still while the exits' own heads learn (DeeBERT)"
    citation = "Xin et al., DeeBERT, ACL 2020, arXiv 2004.12993"
