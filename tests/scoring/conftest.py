"""The recorded outputs that scores and evaluations share."""

from tests.evaluation.conftest import dataset, outputs

__all__ = ["dataset", "outputs"]
