"""XLM-RoBERTa: RoBERTa for a hundred languages, on sentencepiece's vocabulary."""

from __future__ import annotations

from elbert.modeling.families.roberta import Roberta


class XLMRoberta(Roberta):
    """`XLMRobertaForSequenceClassification` (Conneau et al., arXiv 1911.02116)."""

    model_type = "xlm-roberta"
