"""PCEE-BERT: leave when several layers running are confident. Remembers one count per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from elbert.arrays import Array, namespace
from elbert.exits.base import ExitPolicy, Found, State, describe
from elbert.exits.grids import ENTROPY_GRID
from elbert.exits.parameters import count, fitting, number
from elbert.results import ExitOutput
from elbert.tasks import reading


@dataclass(frozen=True)
class Pcee(ExitPolicy):
    """Leave at the first layer i where the last `patience` outputs each have H_i < threshold.

    Rule: cnt_i = cnt_{i-1} + 1 where the normalised entropy is below `threshold`, else 0 (cnt_0 = 0); leave when
    cnt_i = patience. The layers need not agree on the label. With patience 1 it is `entropy`. Regression has no entropy
    and never leaves early. Use it where single layers are sure of themselves too soon.

    Source: Zhang et al., "PCEE-BERT", Findings of NAACL 2022.
    """

    name: ClassVar[str] = "pcee"
    summary: ClassVar[str] = (
        "leave when normalised entropy was below `threshold` for `patience` layers running (PCEE-BERT)"
    )
    citation: ClassVar[str] = (
        "Zhang et al., PCEE-BERT: Accelerating BERT Inference via Patient and Confident Early Exiting, "
        "Findings of NAACL 2022"
    )

    threshold: float = number(0.2, "a layer is confident when its normalised entropy is below this", high=1.0)
    patience: int = count(2, "confident layers running before a text leaves")

    def start(self, rows: int, num_labels: int) -> State:
        """Return `streak` [rows]."""
        del num_labels
        return {"streak": np.zeros(rows, np.int64)}

    def waits(self, num_layers: int) -> int:
        """Return the layer that makes `patience` outputs."""
        del num_layers
        return self.patience

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Count confident layers."""
        del layer
        entropy = reading(output).normalised_entropy(output.probs)
        streak = namespace(entropy).where(entropy < self.threshold, state["streak"] + 1, 0)
        found = {"fired": streak >= self.patience, "normalised_entropy": entropy, "streak": streak}
        return found, {"streak": streak}

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return entropy and count."""
        del layer
        entropy = describe("normalised_entropy", found["normalised_entropy"])
        return (
            f"{entropy}, threshold {self.threshold:g}; "
            f"confident {found['streak']} times running, patience {self.patience}"
        )

    @classmethod
    def grid(cls, num_layers: int, num_labels: int) -> list[ExitPolicy]:
        """Thresholds from 1 down, each with patience 2, 3 and 4 where it fits."""
        del num_labels
        patiences = fitting((2, 3, 4), num_layers)
        return [cls(threshold, patience) for threshold in ENTROPY_GRID for patience in patiences]
