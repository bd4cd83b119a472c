"""The fixtures that traces and the pages made of them share."""

from tests.reports.conftest import KINDS, build, dataset, traced

__all__ = ["KINDS", "build", "dataset", "traced"]
