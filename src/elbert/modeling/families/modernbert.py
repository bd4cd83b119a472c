"""ModernBERT: pre-norm layers, rotary positions, gated GELU, every third layer global and the others in a window."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from elbert.errors import ModelError
from elbert.modeling.families.base import Family, LayerNames, Step
from elbert.modeling.spec import LayerSpec

_LOCAL = "sliding_attention"


class ModernBert(Family):
    """`ModernBertForSequenceClassification` (Warner et al., arXiv 2412.13663)."""

    model_type = "modernbert"
    prefix = "model"
    word = "embeddings.tok_embeddings"
    position = None
    token_type = None
    embedding_norm = "embeddings.norm"
    layers = "layers.{}"
    layer = LayerNames(
        qkv=("attn.Wqkv",),
        out="attn.Wo",
        attention_norm="attn_norm",
        up=("mlp.Wi",),
        down="mlp.Wo",
        output_norm="mlp_norm",
    )
    final_norm = "final_norm"
    dense = "head.dense"
    dropout = "drop"
    head_norm = "head.norm"
    fields: ClassVar[dict[str, str]] = {
        **{name: name for name in Family.fields if name not in ("type_vocab_size", "hidden_act", "layer_norm_eps")},
        "local_attention": "local_attention",
        "hidden_activation": "hidden_activation",
        "norm_eps": "norm_eps",
        "classifier_activation": "classifier_activation",
    }
    options: ClassVar[dict[str, Any]] = {
        "layer_types": None,
        "rope_parameters": None,
        "attention_bias": False,
        "mlp_bias": False,
        "norm_bias": False,
        "classifier_bias": False,
        "classifier_pooling": "cls",
    }

    def check(self, config: Any) -> None:
        """Refuse other rotations than the plain one."""
        kinds = {rope.get("rope_type", "default") for rope in config.rope_parameters.values()}
        if kinds != {"default"}:
            odd = min(kinds - {"default"})
            raise ModelError(f"rope_parameters of rope_type {odd!r} are not supported; allowed: default")

    def reads_mean(self, config: Any) -> bool:
        """Tell whether the head reads the mean over the tokens, as the published checkpoints' does."""
        return str(config.classifier_pooling) == "mean"

    def stepping(self, backbone: nn.Module, hidden: Tensor, attention_mask: Tensor | None) -> Step:
        """Return how to call a step: with the mask and the rotation of its kind of attention."""
        import torch
        from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

        encoder: Any = self.encoder(backbone)
        given = {"config": backbone.config, "inputs_embeds": hidden, "attention_mask": attention_mask}
        masks = {
            "full_attention": create_bidirectional_mask(**given),
            _LOCAL: create_bidirectional_sliding_window_mask(**given),
        }
        places = torch.arange(hidden.shape[1], device=hidden.device)[None]
        turns = {kind: encoder.rotary_emb(hidden, places, kind) for kind in set(encoder.config.layer_types)}

        def run(step: Any, hidden: Tensor) -> Tensor:
            kind = step.attention_type
            stepped: Tensor = step(hidden, attention_mask=masks[kind], position_embeddings=turns[kind])
            return stepped

        return run

    def spec(self, config: Any, step: int) -> LayerSpec:
        """Return what the layer is: global or local, each kind with its base of rotation."""
        kind = config.layer_types[step]
        return LayerSpec(
            heads=int(config.num_attention_heads),
            activation=str(config.hidden_activation),
            norm_first=True,
            gated=True,
            rotary_base=float(config.rope_parameters[kind]["rope_theta"]),
            window=int(config.local_attention) // 2 if kind == _LOCAL else None,
        )

    def feed_forward_activation(self, config: Any) -> str:
        """Return the name ModernBERT's configuration calls `hidden_activation`."""
        return str(config.hidden_activation)

    def head_act(self, config: Any) -> str:
        """Return the name ModernBERT's configuration calls `classifier_activation`."""
        return str(config.classifier_activation)

    def norm_eps(self, config: Any) -> float:
        """Return what ModernBERT's configuration calls `norm_eps`."""
        return float(config.norm_eps)

    def biased(self, config: Any, part: str) -> bool:
        """Tell whether a part has biases; ModernBERT as published has none."""
        names = {"attention": "attention_bias", "feed_forward": "mlp_bias", "norm": "norm_bias"}
        return bool(getattr(config, names.get(part, "classifier_bias")))

    def attention_normed(self, step: int) -> bool:
        """Tell that the first layer reads what the embedding has normed already."""
        return step > 0
