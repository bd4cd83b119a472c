"""The multi-exit classifier over transformers' own modules: families, exit heads, loading, saving, plain matrices.

The names below are loaded when they are first used: those that need transformers take seconds to import, and running a
trained model needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elbert.lazy import lazily

if TYPE_CHECKING:
    from elbert.modeling.files.load import load_model
    from elbert.modeling.losses import layer_losses
    from elbert.modeling.model import MultiExitModel, MultiExitOutput
    from elbert.modeling.weights import EmbeddingWeights, EncoderWeights, HeadWeights, LayerWeights

__all__ = [
    "EmbeddingWeights",
    "EncoderWeights",
    "HeadWeights",
    "LayerWeights",
    "MultiExitModel",
    "MultiExitOutput",
    "layer_losses",
    "load_model",
]

__getattr__ = lazily(
    __name__,
    {
        "EmbeddingWeights": "elbert.modeling.weights",
        "EncoderWeights": "elbert.modeling.weights",
        "HeadWeights": "elbert.modeling.weights",
        "LayerWeights": "elbert.modeling.weights",
        "MultiExitModel": "elbert.modeling.model",
        "MultiExitOutput": "elbert.modeling.model",
        "layer_losses": "elbert.modeling.losses",
        "load_model": "elbert.modeling.files.load",
    },
)
