"""The encoder families, one small file each, and the table that finds the right one."""

from __future__ import annotations

from typing import Any

from elbert.errors import ModelError
from elbert.modeling.activations import activation
from elbert.modeling.families.albert import Albert
from elbert.modeling.families.base import Family
from elbert.modeling.families.bert import Bert
from elbert.modeling.families.camembert import Camembert
from elbert.modeling.families.deberta_v2 import DebertaV2
from elbert.modeling.families.distilbert import DistilBert
from elbert.modeling.families.electra import Electra
from elbert.modeling.families.modernbert import ModernBert
from elbert.modeling.families.mpnet import MPNet
from elbert.modeling.families.roberta import Roberta
from elbert.modeling.families.xlm_roberta import XLMRoberta

_ALL = (
    Albert(),
    Bert(),
    Roberta(),
    DistilBert(),
    Electra(),
    MPNet(),
    XLMRoberta(),
    Camembert(),
    ModernBert(),
    DebertaV2(),
)
FAMILIES: dict[str, Family] = {family.model_type: family for family in _ALL}


def check_family(model_type: Any, where: str = "the model") -> Family:
    """Return the family called `model_type`.

    Args:
        model_type: `model_type` of a `config.json`; anything may stand there.
        where: what to call the model in the error.

    Raises:
        ModelError: that family is not supported.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ModelError(
            f"{where} is of the unsupported family {model_type!r}: elbert reads encoders of the families "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]


def family_of(config: Any) -> Family:
    """Return the family of a transformers configuration.

    Raises:
        ModelError: the family is not supported, or the configuration makes the encoder something else than a plain
            bidirectional one with absolute positions, at least one layer, heads of one width, a known activation and
            classes 0 to C - 1, each of its own name.
    """
    family = check_family(getattr(config, "model_type", None))
    family.check(config)
    activation(family.feed_forward_activation(config))
    activation(family.head_act(config))
    if config.num_hidden_layers < 1:
        raise ModelError(f"the model's configuration asks for {config.num_hidden_layers} layers; an exit needs one")
    if config.num_attention_heads < 1 or config.hidden_size % config.num_attention_heads:
        raise ModelError(
            f"num_attention_heads is {config.num_attention_heads}, which does not divide hidden_size, "
            f"{config.hidden_size}: restore the two as the model was trained with"
        )
    if sorted(config.id2label) != list(range(len(config.id2label))):
        raise ModelError(f"id2label must name the classes 0 to C - 1, not {', '.join(map(str, config.id2label))}")
    names = [str(name).strip() for name in config.id2label.values()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ModelError(f"id2label calls two classes {twice!r}, blanks aside: give every class a name of its own")
    if getattr(config, "is_decoder", False):
        raise ModelError("the model's configuration says is_decoder: true; only bidirectional encoders have exits here")
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions != "absolute":
        raise ModelError(f"position_embedding_type {positions!r} is not supported; allowed: absolute")
    return family


__all__ = ["FAMILIES", "Family", "check_family", "family_of"]
