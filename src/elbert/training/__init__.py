"""Fine-tuning: loss schemes, the trainer, and the folder a finished model becomes.

The names below are loaded when they are first used, so that settings can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elbert.lazy import lazily

if TYPE_CHECKING:
    from elbert.runs.callbacks import TrainingInterruptedError
    from elbert.training.run import train
    from elbert.training.schemes import LossScheme
    from elbert.training.settings import TrainSettings
    from elbert.training.start import default_model, start_model
    from elbert.training.summary import TrainSummary
    from elbert.training.trainer import EarlyExitTrainer

__all__ = [
    "EarlyExitTrainer",
    "LossScheme",
    "TrainSettings",
    "TrainSummary",
    "TrainingInterruptedError",
    "default_model",
    "start_model",
    "train",
]

__getattr__ = lazily(
    __name__,
    {
        "EarlyExitTrainer": "elbert.training.trainer",
        "LossScheme": "elbert.training.schemes",
        "TrainSettings": "elbert.training.settings",
        "TrainSummary": "elbert.training.summary",
        "TrainingInterruptedError": "elbert.runs.callbacks",
        "default_model": "elbert.training.start",
        "start_model": "elbert.training.start",
        "train": "elbert.training.run",
    },
)
