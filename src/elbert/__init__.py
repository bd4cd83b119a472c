"""Text classification that stops thinking as soon as it is sure.

    from elbert import Classifier

    classifier = Classifier.from_pretrained("my-model")
    classifier.predict("a wonderful little film")

The names below are loaded when they are first used, so that importing `elbert` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elbert.lazy import lazily

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import TextDataset, load_data
    from elbert.errors import ElbertError
    from elbert.exits.base import ExitPolicy
    from elbert.exits.replay import replay
    from elbert.results import LayerOutputs, Prediction, Trace
    from elbert.training import TrainSettings, train

__version__ = "0.1.0"

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

__getattr__ = lazily(
    __name__,
    {
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
    },
)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
