"""Data: readers for every kind of source, labels, splits. Knows no model and no tokenizer."""

from __future__ import annotations

from elbert.data.bbc import load_bbc
from elbert.data.dataset import Text, TextDataset, check_trainable, labelled
from elbert.data.labels import Labels
from elbert.data.load import load_data, load_texts, read_texts
from elbert.data.splits import split

__all__ = [
    "Labels",
    "Text",
    "TextDataset",
    "check_trainable",
    "labelled",
    "load_bbc",
    "load_data",
    "load_texts",
    "read_texts",
    "split",
]
