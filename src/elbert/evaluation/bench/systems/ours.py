"""`Classifier`, as a user holds it: with exits, at full depth, or with the same constant depth for every text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elbert.classifier import Classifier
from elbert.data import Text
from elbert.evaluation.bench.job import Answers, Job, Run, Spec
from elbert.evaluation.evaluate import encode_answer
from elbert.exits import ExitPolicy


class Ours:
    """A classifier in a race.

    Args:
        classifier: what runs.
        policy: its exits, as JSON.
    """

    def __init__(self, classifier: Classifier, policy: dict[str, Any] | None) -> None:
        self._classifier = classifier
        self._json = policy
        self._policy = classifier.policy

    def begin(self) -> None:
        """Make the exits anew: some, such as those drawn for timing, remember the rows they have seen."""
        if self._json is not None:
            self._policy = ExitPolicy.from_dict(self._json)

    def __call__(self, texts: Sequence[Text], batch: int) -> Answers:
        """Classify texts, `batch` in flight."""
        predictions = list(self._classifier.stream(texts, policy=self._policy, batch_size=batch))
        labels = [encode_answer(prediction.label, self._classifier) for prediction in predictions]
        return Answers(labels, [prediction.exit_layer for prediction in predictions])


def load(job: Job, spec: Spec) -> Run:
    """Return a classifier with the exits that `spec` names.

    Raises:
        ElbertError: the backend is not installed, or can't compute in this precision.
    """
    classifier = Classifier.from_pretrained(
        job.folder,
        backend=spec.backend,
        device=job.device,
        dtype=spec.dtype,
        policy=spec.policy,
        problem_type=job.problem_type,
    )
    return Ours(classifier, spec.policy)
