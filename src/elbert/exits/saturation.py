"""Saturation: leave when the state has stopped turning. Reads pooled states; remembers one of them per row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from elbert.arrays import LEAST, Array, copy, namespace
from elbert.exits.base import ExitPolicy, Found, State, describe
from elbert.exits.parameters import count, fitting, number
from elbert.results import ExitOutput

_GRID = (0.0, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999)


@dataclass(frozen=True)
class Saturation(ExitPolicy):
    """Leave at the first layer i where the last `patience` steps each had cos(c_i, c_{i-1}) >= threshold.

    Rule: c_i is the pooled state of exit i; cnt_1 = 0; cnt_i = cnt_{i-1} + 1 where the cosine of c_i and c_{i-1} is at
    least `threshold`, else 0; leave when cnt_i = patience. The earliest exit is layer patience + 1. It reads no answer,
    so it works for every kind of problem alike. Use it where exits were trained towards the last state (`leap`).

    Source: Tang et al., "MuE", CVPR 2023, with patience 1 and a threshold for all layers where theirs has one for each.
    """

    name: ClassVar[str] = "saturation"
    summary: ClassVar[str] = "leave when the cosine of neighbouring pooled states reaches `threshold` (MuE)"
    citation: ClassVar[str] = (
        "Tang et al., You Need Multiple Exiting: Dynamic Early Exiting for Accelerating Unified Vision Language Model, "
        "CVPR 2023, arXiv:2211.11152"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})

    threshold: float = number(0.99, "a step changes nothing when the cosine of its ends reaches this", high=1.0)
    patience: int = count(1, "such steps running before a text leaves")

    def start(self, rows: int, num_labels: int) -> State:
        """Return `streak` [rows]; the first update adds `last` [rows, H], whose width nobody knows before."""
        del num_labels
        return {"streak": np.zeros(rows, np.int64)}

    def waits(self, num_layers: int) -> int:
        """Return the layer behind `patience` steps."""
        del num_layers
        return self.patience + 1

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Count steps that changed nothing."""
        del layer
        pooled: Array = output.pooled
        xp = namespace(pooled)
        last = state["last"] if "last" in state else xp.full_like(pooled, math.nan)
        lengths = xp.sqrt((last * last).sum(-1)) * xp.sqrt((pooled * pooled).sum(-1))
        cosine = (last * pooled).sum(-1) / lengths.clip(min=LEAST)
        streak = xp.where(cosine >= self.threshold, state["streak"] + 1, 0)
        found = {"fired": streak >= self.patience, "cosine": cosine, "streak": streak}
        return found, {"streak": streak, "last": copy(pooled)}

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return the cosine and the count."""
        del layer
        cosine = describe("cosine", found["cosine"])
        return (
            f"{cosine}, threshold {self.threshold:g}; steady {found['streak']} times running, patience {self.patience}"
        )

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Cosines from 0 up to 0.9999, each with patience 1 and 2 where it fits."""
        del num_labels
        return [cls(threshold, patience) for threshold in _GRID for patience in fitting((1, 2), num_layers - 1)]
