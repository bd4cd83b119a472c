"""Inference: packed rows in flight, the layer step, the depth scheduler; no tokenizer and no files."""

from elbert.engine.engine import Engine
from elbert.engine.scheduler import Scheduler
from elbert.engine.texts import Departures

__all__ = ["Departures", "Engine", "Scheduler"]
