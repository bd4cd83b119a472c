"""Text classification that stops thinking as soon as it is sure.

    from elbert import Classifier

    classifier = Classifier.from_pretrained("my-model")
    classifier.predict("a wonderful little film")

The names below are loaded when they are first used, so that importing `elbert` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import TextDataset, load_data
    from elbert.errors import ElbertError
    from elbert.exits.base import ExitPolicy
    from elbert.exits.replay import replay
    from elbert.results import LayerOutputs, Prediction, Trace
    from elbert.training import TrainSettings, train

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "elbert.classifier",
    "ElbertError": "elbert.errors",
    "ExitPolicy": "elbert.exits",
    "LayerOutputs": "elbert.results",
    "Prediction": "elbert.results",
    "TextDataset": "elbert.data",
    "Trace": "elbert.results",
    "TrainSettings": "elbert.training",
    "load_data": "elbert.data",
    "replay": "elbert.exits",
    "train": "elbert.training",
}

__all__ = [
    "Classifier",
    "ElbertError",
    "ExitPolicy",
    "LayerOutputs",
    "Prediction",
    "TextDataset",
    "Trace",
    "TrainSettings",
    "load_data",
    "replay",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'elbert' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
