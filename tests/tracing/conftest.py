"""The fixtures that traces and the pages made of them share."""

from tests.reports.conftest import KINDS, build, dataset, traced, worded

__all__ = ["KINDS", "build", "dataset", "traced", "worded"]
