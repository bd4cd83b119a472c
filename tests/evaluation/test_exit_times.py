from __future__ import annotations

import numpy as np

from elbert.classifier import Classifier
from elbert.data import TextDataset
from elbert.evaluation.exit_times import time_budgets
from elbert.exits import make


def test_every_budget_that_is_kept_is_timed_and_the_policy_in_use_stays_one_of_them(
    classifier: Classifier, dataset: TextDataset
) -> None:
    before, kept = classifier.policies, classifier.policy
    fitted = make("budget").fit(classifier.record(dataset.texts), np.array(dataset.labels))
    try:
        classifier.policies = {"thrifty": fitted, "sure": make("max_prob")}
        classifier.policy = fitted
        time_budgets(classifier, dataset.texts)
        assert classifier.policy is classifier.policies["thrifty"]
        assert len(classifier.policy.tensors()["exit_milliseconds"]) == classifier.num_layers
        assert classifier.policies["sure"] == make("max_prob")
    finally:
        classifier.policies, classifier.policy = before, kept
