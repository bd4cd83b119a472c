"""ELECTRA: BERT's layers behind an optionally factorised embedding, and a GELU head on [CLS]."""

from __future__ import annotations

from typing import Any, ClassVar

from elbert.modeling.families.base import Family


class Electra(Family):
    """`ElectraForSequenceClassification` (Clark et al., arXiv 2003.10555)."""

    model_type = "electra"
    prefix = "electra"
    projection = "embeddings_project"
    dense = "classifier.dense"
    dropout = "classifier.dropout"
    cls_dropout = "classifier.dropout"
    out = "classifier.out_proj"
    head_activation = "gelu"
    fields: ClassVar[dict[str, str]] = {**Family.fields, "embedding_size": "embedding_size"}

    def embedding_size(self, config: Any) -> int:
        """Return E of the factorised embedding."""
        return int(config.embedding_size)
