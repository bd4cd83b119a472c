"""The recorded outputs that scores and evaluations share."""

from tests.evaluation.conftest import classifier, dataset, outputs

__all__ = ["classifier", "dataset", "outputs"]
