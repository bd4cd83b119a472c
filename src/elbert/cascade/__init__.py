"""Whole models in a row as one classifier: the first that is sure answers."""

from elbert.cascade.cascade import Cascade

__all__ = ["Cascade"]
