"""RoBERTa and its kin: BERT's layers, positions that start behind the padding id, and a two-layer head on <s>."""

from __future__ import annotations

from typing import Any, ClassVar

from elbert.modeling.families.base import Family


class Roberta(Family):
    """`RobertaForSequenceClassification` (Liu et al., arXiv 1907.11692)."""

    model_type = "roberta"
    prefix = "roberta"
    dense = "classifier.dense"
    dropout = "classifier.dropout"
    cls_dropout = "classifier.dropout"
    out = "classifier.out_proj"
    head_activation = "tanh"
    fields: ClassVar[dict[str, str]] = {**Family.fields, "pad_token_id": "pad_token_id"}

    def position_offset(self, config: Any) -> int:
        """Return the padding id + 1."""
        return int(config.pad_token_id) + 1
