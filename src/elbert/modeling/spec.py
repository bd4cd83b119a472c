"""What one encoder layer is, as plain values: everything a family may choose that is no tensor.

`elbert.engine.layers.formula` reads it and is the only statement of what a layer computes. Derived from a model's
configuration whenever the model is read; saved nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer. Biases are absent where a `Matrix` or `Norm` has none, position terms where its weights have none.

    Attributes:
        heads: attention heads; each is H / heads wide.
        activation: transformers' name of the feed-forward activation, see `activations.activation`.
        norm_first: True norms what goes into attention and into the feed-forward part (pre-norm), False what comes out
            behind the residual (post-norm).
        gated: True where `up` is twice as wide and the activated first half is multiplied by the second (GLU).
        rotary_base: base of the rotary position embedding of queries and keys, NeoX halves (Su et al., RoFormer,
            arXiv:2104.09864); None for no rotation.
        window: a token sees those at most so many places away; None for all.
        score_terms: kinds of terms a score adds up (content, content to position, position to content in He et al.,
            DeBERTa, arXiv:2006.03654); scores are divided by sqrt(score_terms x width).
    """

    heads: int
    activation: str
    norm_first: bool = False
    gated: bool = False
    rotary_base: float | None = None
    window: int | None = None
    score_terms: int = 1

    def scale(self, width: int) -> float:
        """Return what scores are multiplied by, for heads of `width`."""
        return float((self.score_terms * width) ** -0.5)
