"""Energy: leave when the logits are large as a whole, which softmax forgets. Keeps no state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from elbert.arrays import Array
from elbert.exits.base import ExitPolicy, Found, State, Sweep
from elbert.exits.parameters import number
from elbert.results import ExitOutput
from elbert.tasks import reading

# Up to what no logit of a usual model reaches.
_GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0, 13.0, 17.0)


@dataclass(frozen=True)
class Energy(ExitPolicy):
    """Leave at the first layer i where F(z_i) >= threshold.

    Rule: F(z) = log Σ_j exp z(j), the negative free energy of the logits. COSEE's and NSP's signal 1 / (1 + Σ exp z) is
    the same order: it is below τ where F > log(1/τ − 1). For multi-label the least F of a label's two logits ± z/2
    counts (our reading); for regression the rule never fires. Use it where logits are at hand and several classes look
    alike: softmax sees only how far they lie apart, the energy also how high. Its scale is the model's own.

    Source: Akbari et al., "E-LANG", ACL 2022; as an exit He et al., "COSEE", AAAI 2025.
    """

    name: ClassVar[str] = "energy"
    summary: ClassVar[str] = "leave when log Σ exp of the logits reaches `threshold` (E-LANG, COSEE)"
    citation: ClassVar[str] = (
        "Akbari et al., E-LANG: Energy-Based Joint Inferencing of Super and Swift Language Models, ACL 2022, "
        "arXiv:2203.00748; He et al., COSEE: Consistency-Oriented Signal-Based Early Exiting, AAAI 2025, "
        "arXiv:2412.13236"
    )
    sweep: ClassVar[Sweep] = {"threshold": _GRID}

    threshold: float = number(4.0, "leave when the logits' negative free energy reaches this")

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the energy with the threshold."""
        del layer
        energy = reading(output).energy(output.logits)
        return {"fired": energy >= self.threshold, "energy": energy}, state
