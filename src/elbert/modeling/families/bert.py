"""BERT: M distinct layers, pooler and classifier on [CLS]."""

from __future__ import annotations

from elbert.modeling.families.base import Family


class Bert(Family):
    """`BertForSequenceClassification` (Devlin et al., arXiv 1810.04805)."""

    model_type = "bert"
    prefix = "bert"
    dense = "bert.pooler.dense"
    head_activation = "tanh"
