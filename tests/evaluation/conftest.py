"""A classifier of a few thousand random weights, and labelled texts for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from elbert.classifier import Classifier
from elbert.data import Labels, TextDataset
from elbert.modeling.files.load import load_model
from elbert.results import LayerOutputs

KINDS = ("single_label_classification", "multi_label_classification", "regression")


def make_classifier(problem_type: str, texts: list[str]) -> Classifier:
    torch.manual_seed(0)
    names = () if problem_type == "regression" else ("neg", "pos", "odd")
    model, tokenizer, elbert = load_model("random-tiny", labels=names, problem_type=problem_type, texts=texts)
    return Classifier(model, tokenizer, {**elbert, "default_policy": "elbert"})


def make_dataset(problem_type: Any, texts: list[str]) -> TextDataset:
    names = () if problem_type == "regression" else ("neg", "pos", "odd")
    values: dict[str, Any] = {
        "single_label_classification": [row % 3 for row in range(len(texts))],
        "multi_label_classification": [[1.0, float(row % 2), 0.0] for row in range(len(texts))],
        "regression": [row / 2 for row in range(len(texts))],
    }
    return TextDataset(texts, values[problem_type], Labels(problem_type, names), "reviews")


@pytest.fixture
def classifier(tiny_texts: list[str]) -> Classifier:
    """Single-label, 4 layers, 3 classes."""
    return make_classifier("single_label_classification", tiny_texts)


@pytest.fixture
def dataset(tiny_texts: list[str]) -> TextDataset:
    """Eight texts with the labels 0, 1 and 2."""
    return make_dataset("single_label_classification", tiny_texts)


@pytest.fixture
def outputs() -> LayerOutputs:
    """Four texts, three layers, two classes: right answers 2, 3 and 4 of 4 with depth; labels [0, 1, 0, 1]."""
    first = torch.tensor(
        [
            [0.9, 0.9, 0.9],  # label 0: right at once and sure of it
            [0.1, 0.1, 0.1],  # label 1: likewise
            [0.4, 0.9, 0.9],  # label 0: right from layer 2 on
            [0.6, 0.6, 0.1],  # label 1: right at layer 3 only
        ]
    )
    probs = torch.stack((first, 1 - first), -1)
    return LayerOutputs(probs.log(), probs, torch.tensor([3, 3, 3, 3]))
