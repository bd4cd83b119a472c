"""An exit policy as a device can follow it without its host: fixed shapes, no look at a value from Python.

A policy that looks (`.item()`, `if tensor`, a boolean index) is found out by running it on tensors that hold no data;
the scheduler of `scheduler.py` runs it then, as it runs everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from elbert.engine.requests import probabilities
from elbert.exits import ExitPolicy, State
from elbert.exits.state import widened
from elbert.modeling.weights import EncoderWeights
from elbert.results import ExitOutput, ProblemType

_NOWHERE = torch.device("meta")


@dataclass(frozen=True, slots=True)
class Rule:
    """Who leaves, for rows whose number never changes.

    Attributes:
        policy: the exits.
        layers: most layers a row runs; after them it leaves whatever the policy says.
        at_once: layers between two looks at the exits: 1, or `layers` where all rows leave at the same depth.
        num_labels: C.
        problem_type: how to read the logits.
        widths: last dimension of every tensor of the state once the policy has seen an output.
    """

    policy: ExitPolicy
    layers: int
    at_once: int
    num_labels: int
    problem_type: ProblemType
    widths: dict[str, int]

    @property
    def constant(self) -> bool:
        """True where every row leaves at the first look, so that nobody need be asked."""
        return self.at_once == self.layers

    def start(self, rows: int, device: torch.device) -> State:
        """Return the state of `rows` new rows, in the shapes it keeps."""
        if self.constant:
            return {}
        state = self.policy.start(rows, num_labels=self.num_labels, device=device)
        return {name: widened(value, self.widths[name]) for name, value in state.items()}

    def decide(self, state: State, logits: Tensor, pooled: Tensor, layer: Tensor) -> tuple[Tensor, State]:
        """Return (leave [rows] bool, new state); arguments as the policy's, probabilities are worked out here."""
        last = layer >= self.layers
        if self.constant:
            return last, state
        output = ExitOutput(probabilities(logits, self.problem_type), logits, pooled, self.problem_type)
        leave, state = self.policy.decide(state, output, layer)
        return leave | last, state


def rule_of(policy: ExitPolicy, weights: EncoderWeights, *, every_exit: bool) -> Rule | None:
    """Return the policy as a rule, or None where a device can't follow it by itself.

    Args:
        policy: any exit policy; one with an `update` of its own can't be followed.
        weights: the model.
        every_exit: look at every exit although the policy does not ask for it, as a recorder does.
    """
    if type(policy).update is not ExitPolicy.update:
        return None
    layers = min(policy.latest(weights.num_layers), weights.num_layers)
    together = not every_exit and policy.earliest(weights.num_layers) >= layers
    try:
        widths = _widths(policy, weights)
    except Exception:  # noqa: BLE001 - anybody's code on tensors without data; the scheduler shows its own mistakes
        return None
    if widths is None:
        return None
    at_once = layers if together else 1
    return Rule(policy, layers, at_once, weights.num_labels, weights.problem_type, widths)


def _widths(policy: ExitPolicy, weights: EncoderWeights) -> dict[str, int] | None:
    """Return the last dimensions of the policy's state; None where a later state does not fit in the place of it."""
    rows, classes = 2, weights.num_labels
    logits = torch.empty(rows, classes, device=_NOWHERE)
    pooled = torch.empty(rows, weights.hidden_size, device=_NOWHERE)
    output = ExitOutput(logits, logits, pooled, weights.problem_type)
    layer = torch.ones(rows, dtype=torch.int64, device=_NOWHERE)
    begun = policy.start(rows, num_labels=classes, device=_NOWHERE)
    leave, after = policy.decide(begun, output, layer)
    _, later = policy.decide(after, output, layer + 1)
    if leave.shape != layer.shape or leave.dtype != torch.bool or begun.keys() != after.keys():
        return None
    widths = {name: value.shape[-1] for name, value in after.items()}
    begun = {name: widened(value, widths[name]) for name, value in begun.items()}
    return widths if _kinds(begun) == _kinds(after) == _kinds(later) else None


def _kinds(state: State) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in state.items()}
