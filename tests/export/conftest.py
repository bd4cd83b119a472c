"""Exported folders of models of a few thousand parameters, each written once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from elbert import Classifier
from elbert.exits import ExitPolicy, make


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
        return Classifier(model, tiny_tokenizer, {"max_length": 24}, name="tiny", policy=chosen)

    return build


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
    "bert-own-heads": {"family": "bert", "heads": "full", "policy": make("max_prob", threshold=0.665)},
    "distilbert": {"family": "distilbert", "seed": 1, "policy": make("patience", patience=1)},
    "multi-label": {
        "names": ["joy", "anger", "fear"],
        "problem_type": "multi_label_classification",
        "policy": make("entropy", threshold=0.982),
    },
    "regression": {
        "names": ["score"],
        "problem_type": "regression",
        "policy": make("elbert", window=2, criterion="range", tolerance=0.1),
    },
}
