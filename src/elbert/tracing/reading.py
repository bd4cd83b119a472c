"""A text as it was tokenised for a trace, which shows more of it than the layers need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from elbert.data import Text
from elbert.engine.requests import Arrival


@dataclass(frozen=True, slots=True)
class Reading:
    """One text, tokenised.

    Attributes:
        text: as it was given.
        arrival: as the engine takes it.
        encoded: as the tokenizer returned it, with tokens and offsets.
        truncated: its end was cut off.
    """

    text: Text
    arrival: Arrival
    encoded: Any
    truncated: bool
