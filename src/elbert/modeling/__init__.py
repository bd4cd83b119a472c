"""The multi-exit classifier over transformers' own modules: families, exit heads, loading, saving, plain matrices."""

from elbert.modeling.load import load_model
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
