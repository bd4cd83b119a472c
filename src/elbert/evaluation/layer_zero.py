"""Which models asked their layer 0 about which texts, and the seconds that this takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from elbert.cascade import Cascade
from elbert.engine.layer_zero import bag
from elbert.exits import ExitPolicy

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import Text
    from elbert.results import Prediction

_WORDS_AT_ONCE = 32  # texts that layer 0 is timed with


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


def seconds_of_words(classifier: Classifier, texts: Sequence[Text]) -> float:
    """Return the seconds that layer 0 takes for texts, tokenised already, some at once; 0 where there is none."""
    words, arrived = classifier.words, list(classifier.arrivals(texts, {}))
    begun = time.perf_counter()
    for start in range(0, len(arrived) if words else 0, _WORDS_AT_ONCE):
        words.logits(*bag(arrived[start : start + _WORDS_AT_ONCE]))  # type: ignore[union-attr]
    return time.perf_counter() - begun
