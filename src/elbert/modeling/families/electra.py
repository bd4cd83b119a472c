"""ELECTRA: BERT's layers behind an optionally factorised embedding, and a GELU head on [CLS]."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from elbert.modeling.families.base import Family


class Electra(Family):
    """`ElectraForSequenceClassification` (Clark et al., arXiv 2003.10555)."""

    model_type = "electra"
    head_activation = "gelu"
    drops_cls = True
    prefix = "electra"
    projection = "embeddings_project"
    dense = "classifier.dense"
    dropout = "classifier.dropout"
    out = "classifier.out_proj"
    fields: ClassVar[dict[str, str]] = {**Family.fields, "embedding_size": "embedding_size"}

    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return [B, S, H], projected where the embedding is narrower than the layers."""
        electra = self.encoder(backbone)
        embedded: Tensor = electra.embeddings(input_ids, token_type_ids=token_type_ids)  # [B, S, E]
        projection = getattr(electra, "embeddings_project", None)
        return embedded if projection is None else projection(embedded)

    def embedding_size(self, config: Any) -> int:
        """Return E of the factorised embedding."""
        return int(config.embedding_size)
