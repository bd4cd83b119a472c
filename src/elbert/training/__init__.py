"""Fine-tuning: loss schemes, the trainer, and the folder a finished model becomes."""

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
