"""DeBERTa-v2 and v3: BERT's layers with attention that tells content from position, and a pooler of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elbert.errors import ModelError
from elbert.modeling.families.base import Family, LayerNames, Shape, Step
from elbert.modeling.families.tensors import Tensors, matrix, norm
from elbert.modeling.spec import LayerSpec
from elbert.modeling.weights import Disentangled, Matrix, PositionWeights

_ENCODER = "deberta.encoder"
_TERMS = ("c2p", "p2c")


class DebertaV2(Family):
    """`DebertaV2ForSequenceClassification` (He et al., arXiv 2006.03654 and 2111.09543)."""

    model_type = "deberta-v2"
    prefix = "deberta"
    projection = "embeddings.embed_proj"
    projection_inside = True
    layer = LayerNames(
        qkv=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        out="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        up=("intermediate.dense",),
        down="output.dense",
        output_norm="output.LayerNorm",
    )
    dense = "pooler.dense"
    cls_dropout = "pooler.dropout"
    fields: ClassVar[dict[str, str]] = {name: name for name in Family.fields if name != "type_vocab_size"}
    options: ClassVar[dict[str, Any]] = {
        "type_vocab_size": 0,
        "embedding_size": None,
        "position_biased_input": True,
        "relative_attention": False,
        "max_relative_positions": -1,
        "position_buckets": -1,
        "norm_rel_ebd": "none",
        "share_att_key": False,
        "pos_att_type": None,
        "pooler_hidden_act": "gelu",
        "pooler_hidden_size": None,
        "cls_dropout": None,
        "conv_kernel_size": 0,
        "attention_head_size": None,
    }

    def check(self, config: Any) -> None:
        """Refuse what only DeBERTa-v2's largest models have, and heads of odd widths."""
        if self._option(config, "conv_kernel_size"):
            raise ModelError("conv_kernel_size: a convolution beside the first layer is not supported; allowed: 0")
        widths = {
            "pooler_hidden_size": config.hidden_size,
            "attention_head_size": config.hidden_size // config.num_attention_heads,
        }
        for name, only in widths.items():
            given = self._option(config, name)
            if given not in (None, only):
                raise ModelError(f"{name} {given} is not supported; allowed: {only}")
        odd = sorted(set(self._terms(config)) - set(_TERMS))
        if odd:
            raise ModelError(f"pos_att_type {odd[0]!r} is not supported; allowed: {', '.join(_TERMS)}")

    def stepping(self, backbone: nn.Module, hidden: Tensor, attention_mask: Tensor | None) -> Step:
        """Return how to call a step: with relative positions and their embeddings."""
        encoder = self.encoder(backbone).encoder
        given = torch.ones(hidden.shape[:2], device=hidden.device) if attention_mask is None else attention_mask
        mask, places = encoder.get_attention_mask(given), encoder.get_rel_pos(hidden)
        table = encoder.get_rel_embedding()
        return lambda step, hidden: step(hidden, mask, relative_pos=places, rel_embeddings=table)[0]

    def spec(self, config: Any, step: int) -> LayerSpec:  # noqa: ARG002
        """Return what a layer is; scores are scaled by their terms even where positions are switched off."""
        terms = 1 + len(set(self._terms(config)))
        return LayerSpec(int(config.num_attention_heads), str(config.hidden_act), score_terms=terms)

    def embedding_size(self, config: Any) -> int:
        """Return E of the factorised embedding."""
        return int(self._option(config, "embedding_size") or config.hidden_size)

    def head_act(self, config: Any) -> str:
        """Return the pooler's activation."""
        return str(config.pooler_hidden_act)

    def position_rows(self, config: Any) -> int:
        """Return P, or 0 for models that know places in their layers only."""
        return int(config.max_position_embeddings) if self._option(config, "position_biased_input") else 0

    def biased(self, config: Any, part: str) -> bool:  # noqa: ARG002
        """Tell whether a part has biases."""
        return part != "projection"

    def extra_shapes(self, config: Any) -> dict[str, Shape]:
        """Return the shapes of the relative positions, their norm and their projections."""
        hidden = config.hidden_size
        shapes: dict[str, Shape] = {}
        linears: list[str] = []
        if self._option(config, "relative_attention"):
            shapes[f"{_ENCODER}.rel_embeddings.weight"] = (2 * self._span(config), hidden)
            if not self._option(config, "share_att_key"):
                kinds = dict(zip(_TERMS, ("pos_key_proj", "pos_query_proj"), strict=True))
                parts = [kinds[term] for term in _TERMS if term in self._terms(config)]
                linears = [f"{name}.attention.self.{part}" for (name,) in self.layer_names(config) for part in parts]
        for name in linears:
            shapes |= {f"{name}.weight": (hidden, hidden), f"{name}.bias": (hidden,)}
        if self._normed(config):
            shapes |= {f"{_ENCODER}.LayerNorm.{part}": (hidden,) for part in ("weight", "bias")}
        return shapes

    def positions(self, tensors: Tensors, config: Any) -> Callable[[str], PositionWeights]:
        """Return each layer's own projections of the relative positions that all layers share."""
        if not self._option(config, "relative_attention") or not self._terms(config):
            return lambda name: PositionWeights()  # noqa: ARG005
        table = tensors[f"{_ENCODER}.rel_embeddings.weight"].detach()
        if self._normed(config):
            scale = norm(tensors, f"{_ENCODER}.LayerNorm", self.norm_eps(config))
            table = F.layer_norm(table, table.shape[-1:], scale.weight, scale.bias, scale.eps)
        index, shared = self._index(config), self._option(config, "share_att_key")
        names = ("key_proj", "query_proj") if shared else ("pos_key_proj", "pos_query_proj")

        def of_layer(name: str) -> PositionWeights:
            linears = {term: f"{name}.attention.self.{part}" for term, part in zip(_TERMS, names, strict=True)}
            key, query = (
                _product(table, matrix(tensors, linears[term])) if term in self._terms(config) else None
                for term in _TERMS
            )
            return PositionWeights(disentangled=Disentangled(key, query, index))

        return of_layer

    def _index(self, config: Any) -> Tensor:
        """Return [2P - 1], the relative position by distance, key minus query: near ones their own, far ones shared."""
        places, span = config.max_position_embeddings, self._span(config)
        apart = -torch.arange(1 - places, places)  # query minus key
        buckets = self._option(config, "position_buckets")
        if buckets > 0:
            apart = log_buckets(apart, buckets, self._most(config))
        return (apart + span).clamp(0, 2 * span - 1)

    def _most(self, config: Any) -> int:
        most = self._option(config, "max_relative_positions")
        return int(config.max_position_embeddings if most < 1 else most)

    def _span(self, config: Any) -> int:
        buckets = int(self._option(config, "position_buckets"))
        return buckets if buckets > 0 else self._most(config)

    def _normed(self, config: Any) -> bool:
        return "layer_norm" in [part.strip() for part in self._option(config, "norm_rel_ebd").lower().split("|")]

    def _terms(self, config: Any) -> list[str]:
        given = self._option(config, "pos_att_type") or []
        return [part.strip() for part in given.lower().split("|")] if isinstance(given, str) else list(given)

    def _option(self, config: Any, name: str) -> Any:
        """Return a field that transformers' configuration may lack altogether."""
        return getattr(config, name, self.options[name])


def log_buckets(apart: Tensor, buckets: int, most: int) -> Tensor:
    """Return distances with those beyond `buckets / 2` by their logarithm, so that `most` comes to `buckets - 1`."""
    middle = buckets // 2
    far = torch.where(apart.abs() < middle, middle - 1, apart.abs())
    share = torch.log(far / middle) / torch.log(torch.tensor((most - 1) / middle))
    by_logarithm = torch.ceil(share * (middle - 1)) + middle
    return torch.where(far <= middle, apart, (by_logarithm * apart.sign()).long())


def _product(rows: Tensor, given: Matrix) -> Tensor:
    return F.linear(rows, given.weight, given.bias)
