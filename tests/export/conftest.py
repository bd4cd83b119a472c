"""Exported folders of models of a few thousand parameters, each written once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elbert import Classifier
from elbert.exits import ExitPolicy, make
from elbert.words import WordModel
from elbert.words.grams import gram_buckets


@pytest.fixture(params=["onnx", "openvino"])
def format(request: pytest.FixtureRequest) -> str:
    """The name of every format whose library is installed."""
    pytest.importorskip("onnx", reason="graphs are written with onnx: pip install 'elbert[onnx]'")
    runtime = {"onnx": "onnxruntime"}.get(request.param, request.param)
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    return str(request.param)


@pytest.fixture(scope="session")
def classifier_of(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> Callable[..., Classifier]:
    """`classifier_of(family="albert", policy=None, **config)`: over random weights; by default ELBERT's, window 2."""

    def build(family: str = "albert", policy: ExitPolicy | None = None, **config: Any) -> Classifier:
        names = config.pop("names", ["bad", "good"])
        config.setdefault("problem_type", "single_label_classification")
        model = tiny_model(family, num_labels=len(names), id2label=dict(enumerate(names)), **config)
        chosen = policy or make("elbert", threshold=0.6, window=2)
        words = None if chosen.words is None else word_model(tiny_tokenizer, len(names))
        return Classifier(model, tiny_tokenizer, {"max_length": 24}, name="tiny", policy=chosen, words=words)

    return build


def word_model(tokenizer: Any, classes: int) -> WordModel:
    """A layer 0 that knows every gram of one token; every exit hears it, of all tokens."""
    ids = np.arange(len(tokenizer))
    buckets = np.unique(gram_buckets(ids, np.ones(len(ids), np.int64))[2]).astype(np.int32)
    weight = np.random.default_rng(0).normal(0, 1.2, (len(buckets), classes)).astype(np.float16)
    idf, bias = np.ones(len(buckets), np.float16), np.zeros(classes, np.float32)
    return WordModel(buckets, idf, weight, bias, at_exits=0.3, reach=64)


@pytest.fixture(scope="session")
def exported_of(
    classifier_of: Callable[..., Classifier], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], tuple[Classifier, Path]]:
    """`exported_of(format, kind)`: a classifier and the folder it was exported to, for a name of `KINDS`."""
    from elbert.export import export_model

    @cache
    def build(format: str, kind: str) -> tuple[Classifier, Path]:
        classifier = classifier_of(**KINDS[kind])
        folder = tmp_path_factory.mktemp("exported") / f"{kind}-{format}"
        return classifier, export_model(classifier, format, folder)

    return build


# Each with a policy that lets the texts of the tests leave at several layers.
KINDS: dict[str, dict[str, Any]] = {
    "albert": {},
    "bert-mean-heads": {"family": "bert", "heads": "mean", "policy": make("max_prob", threshold=0.665)},
    "modernbert-mean": {
        "family": "modernbert",
        "classifier_pooling": "mean",
        "policy": make("max_prob", threshold=0.8),
    },
    "bert-own-heads": {"family": "bert", "heads": "full", "policy": make("max_prob", threshold=0.665)},
    "distilbert": {"family": "distilbert", "seed": 1, "policy": make("patience", patience=1)},
    "multi-label": {
        "names": ["joy", "anger", "fear"],
        "problem_type": "multi_label_classification",
        "policy": make("entropy", threshold=0.982),
    },
    "words": {"policy": make("elbert", threshold=0.6, window=2, words=0.85)},
    "multi-label-words": {
        "names": ["joy", "anger", "fear"],
        "problem_type": "multi_label_classification",
        "policy": make("entropy", threshold=0.982, words=0.65),
    },
    "regression": {
        "names": ["score"],
        "problem_type": "regression",
        "policy": make("elbert", window=2, criterion="range", tolerance=0.1),
    },
}
