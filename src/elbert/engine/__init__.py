"""Inference: packed rows in flight, the layer step, the depth scheduler; no tokenizer and no files."""

from elbert.engine.engine import Engine
from elbert.engine.requests import Arrival, Departures, Failure
from elbert.engine.scheduler import Mode, Scheduler

__all__ = ["Arrival", "Departures", "Engine", "Failure", "Mode", "Scheduler"]
