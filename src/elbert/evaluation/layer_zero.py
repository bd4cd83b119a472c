"""Which models asked their layer 0 about which texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from elbert.cascade import Cascade
from elbert.exits import ExitPolicy

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import Text
    from elbert.results import Prediction


def asked_words(
    classifier: Classifier | Cascade, policy: ExitPolicy, texts: Sequence[Text], predictions: Sequence[Prediction]
) -> list[tuple[Classifier, Sequence[Text]]]:
    """Return each model whose layer 0 was asked, with the texts it was asked about; of a cascade there may be more.

    Args:
        classifier: what answered.
        policy: under which.
        texts: what it was given.
        predictions: what it said of them.
    """
    if not isinstance(classifier, Cascade):
        return [(classifier, texts)] if classifier.words is not None and classifier.words.asked(policy.words) else []
    first = policy.earliest(len(classifier.models))
    return [
        (model, [text for text, said in zip(texts, predictions, strict=True) if (said.member or 0) >= number])
        for number, model in enumerate(classifier.models, start=1)
        if number >= first and model.words is not None and model.words.asked(model.policy.words)
    ]
