"""`Classifier`, as a user holds it: with exits, at full depth, or with the same constant depth for every text."""

from __future__ import annotations

from collections.abc import Sequence

from elbert.classifier import Classifier
from elbert.data import Text
from elbert.evaluation.bench.job import Answers, Job, Run, Spec
from elbert.evaluation.evaluate import encode_answer


def load(job: Job, spec: Spec) -> Run:
    """Return a classifier with the exits that `spec` names.

    Raises:
        ElbertError: the backend is not installed, or can't compute in this precision.
    """
    classifier = Classifier.from_pretrained(
        job.folder, backend=spec.backend, device=job.device, dtype=spec.dtype, policy=spec.policy
    )

    def run(texts: Sequence[Text], batch: int) -> Answers:
        predictions = list(classifier.stream(texts, batch_size=batch))
        labels = [encode_answer(prediction.label, classifier) for prediction in predictions]
        return Answers(labels, [prediction.exit_layer for prediction in predictions])

    return run
