"""Exporting a classifier: graphs for another runtime, and a script that runs them without torch and without elbert."""

from elbert.export.write import FORMATS, export_model

__all__ = ["FORMATS", "export_model"]
