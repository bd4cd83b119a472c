"""What a text takes to leave at each exit, measured: a budget in milliseconds is one in layers by these."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from elbert.data.dataset import spread_over
from elbert.evaluation.evaluate import time_in_turns
from elbert.exits import make
from elbert.exits.budget import Budget

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import Text

# Texts timed, spread evenly over the data, and rounds: some seconds for a model of twelve layers.
_TEXTS, _ROUNDS = 24, 3


def exit_milliseconds(classifier: Classifier, texts: Sequence[Text]) -> NDArray[np.float64]:
    """Return the milliseconds that a text takes to leave at each layer, [M], never less at a later one.

    Texts run one at a time, tokenising included; medians of three rounds in which the layers take turns.

    Args:
        classifier: what runs them.
        texts: at least one, such as it will get; 24 of them are timed.
    """
    some = spread_over(texts, _TEXTS)
    policies = [make("fixed", layer=layer) for layer in range(1, classifier.num_layers + 1)]
    rounds = [seconds for seconds, _ in time_in_turns(classifier, some, policies, 1, _ROUNDS)]
    taken = [1000 * statistics.median(seconds) / len(some) for seconds in rounds]
    return np.maximum.accumulate(np.array(taken))


def time_budgets(classifier: Classifier, texts: Sequence[Text]) -> None:
    """Measure what exits take and give it to every `budget` that the model keeps, and to its evidence.

    Args:
        classifier: one that was calibrated with the family `budget`.
        texts: as in `exit_milliseconds`.
    """
    taken = exit_milliseconds(classifier, texts)
    kept = (*classifier.policies.values(), classifier.policy)
    # By object: the policy in use is one of those kept, and stays that.
    timed = {id(each): each.timed(taken) for each in kept if isinstance(each, Budget)}
    classifier.policies = {name: timed.get(id(each), each) for name, each in classifier.policies.items()}
    classifier.policy = timed.get(id(classifier.policy), classifier.policy)
    for evidence in classifier.calibration.values():
        if evidence.get("family") == Budget.name:
            evidence["exit_milliseconds"] = [round(each, 4) for each in taken.tolist()]
