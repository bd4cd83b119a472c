"""An exit policy as a device can follow it without its host: fixed shapes, no look at a value from Python.

A policy that looks (`.item()`, `if tensor`, a boolean index) is found out by running it on tensors that hold no data;
the scheduler of `scheduler.py` runs it then, as it runs everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from elbert.exits import ExitPolicy, State
from elbert.modeling.weights import EncoderWeights
from elbert.results import ExitOutput, ProblemType
from elbert.tasks import task_of

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
    """

    policy: ExitPolicy
    layers: int
    at_once: int
    num_labels: int
    problem_type: ProblemType

    @property
    def constant(self) -> bool:
        """True where every row leaves at the first look, so that nobody need be asked."""
        return self.at_once == self.layers

    def start(self, rows: int, device: torch.device) -> State:
        """Return the state of `rows` new rows, as tensors."""
        return {} if self.constant else _start(self.policy, rows, self.num_labels, device)

    def decide(self, state: State, logits: Tensor, pooled: Tensor, layer: Tensor) -> tuple[Tensor, State]:
        """Return (leave [rows] bool, new state); arguments as the policy's, probabilities are worked out here."""
        last = layer >= self.layers
        if self.constant:
            return last, state
        logits = logits.float()
        output = ExitOutput(task_of(self.problem_type).probabilities(logits), logits, pooled.float(), self.problem_type)
        found, state = self.policy.decide(state, output, layer)
        return self.policy.leaves(found, layer) | last, state


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
        if not _keeps_its_shape(policy, weights):
            return None
    except Exception:  # noqa: BLE001 - anybody's code on tensors without data; the scheduler shows its own mistakes
        return None
    at_once = layers if together else 1
    return Rule(policy, layers, at_once, weights.num_labels, weights.problem_type)


def _start(policy: ExitPolicy, rows: int, num_labels: int, device: torch.device) -> State:
    return {name: torch.from_numpy(value).to(device) for name, value in policy.start(rows, num_labels).items()}


def _keeps_its_shape(policy: ExitPolicy, weights: EncoderWeights) -> bool:
    """Return whether every later state fits in the place of the one before."""
    rows, classes = 2, weights.num_labels
    logits = torch.empty(rows, classes, device=_NOWHERE)
    pooled = torch.empty(rows, weights.hidden_size, device=_NOWHERE)
    output = ExitOutput(logits, logits, pooled, weights.problem_type)
    layer = torch.ones(rows, dtype=torch.int64, device=_NOWHERE)
    begun = _start(policy, rows, classes, _NOWHERE)
    found, after = policy.decide(begun, output, layer)
    leave = policy.leaves(found, layer)
    _, later = policy.decide(after, output, layer + 1)
    fits = leave.shape == layer.shape and leave.dtype == torch.bool
    return fits and _kinds(begun) == _kinds(after) == _kinds(later)


def _kinds(state: State) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in state.items()}
