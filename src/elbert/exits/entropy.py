"""Entropy: leave when the class distribution is sharp enough (DeeBERT in nats, FastBERT normalised). Keeps no state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from elbert.arrays import Array
from elbert.errors import UsageError
from elbert.exits.base import ExitPolicy, Found, State, Sweep
from elbert.exits.grids import ENTROPY_GRID
from elbert.exits.parameters import number, switch
from elbert.results import ExitOutput
from elbert.tasks import reading


@dataclass(frozen=True)
class Entropy(ExitPolicy):
    """Leave at the first layer i where H(p_i) < threshold.

    Rule: H(p) = −Σ_j p_j log p_j, divided by log C where `normalized`. For multi-label the greatest entropy of a single
    label counts; for regression there is no entropy and the rule never fires. Use the normalised form: its threshold
    means the same for two classes and for two hundred. Use nats to repeat DeeBERT's numbers.

    Source: Xin et al., "DeeBERT", ACL 2020 (nats); Liu et al., "FastBERT", ACL 2020 (normalised, their `speed`).
    """

    name: ClassVar[str] = "entropy"
    summary: ClassVar[str] = (
        "leave when the entropy of the class probabilities is below `threshold` (DeeBERT, FastBERT)"
    )
    citation: ClassVar[str] = (
        "Xin et al., DeeBERT: Dynamic Early Exiting for Accelerating BERT Inference, ACL 2020, arXiv:2004.12993; "
        "Liu et al., FastBERT: a Self-distilling BERT with Adaptive Inference Time, ACL 2020, arXiv:2004.02178"
    )
    sweep: ClassVar[Sweep] = {"threshold": ENTROPY_GRID}

    threshold: float = number(0.1, "leave when the entropy is below this; at most 1 when normalised")
    normalized: bool = switch(True, "divide the entropy by log C, so that it lies in [0, 1]; else it is in nats")

    def __post_init__(self) -> None:
        """Check the parameters; raises UsageError."""
        super().__post_init__()
        if self.normalized and self.threshold > 1:
            raise UsageError(
                f"exit policy 'entropy': threshold is {self.threshold!r}; allowed: a number from 0 to 1 as long as "
                "normalized is true: lower it, or set normalized to false for nats"
            )

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the entropy with the threshold."""
        del layer
        if self.normalized:
            name, score = "normalised_entropy", reading(output).normalised_entropy(output.probs)
        else:
            name, score = "entropy_in_nats", reading(output).entropy(output.probs)
        return {"fired": score < self.threshold, name: score}, state
