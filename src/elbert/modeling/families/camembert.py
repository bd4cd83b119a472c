"""CamemBERT: RoBERTa for French, on sentencepiece's vocabulary."""

from __future__ import annotations

from elbert.modeling.families.roberta import Roberta


class Camembert(Roberta):
    """`CamembertForSequenceClassification` (Martin et al., arXiv 1911.03894)."""

    model_type = "camembert"
