"""Skip gates: where rows go on, what a replay makes of it, and which gates are refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from elbert.errors import UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.exits.gates import SkipGates
from elbert.results import LayerOutputs


def next_of_one(gates: SkipGates, state: list[float], layer: int, layers: int) -> int:
    """Return the layer that one row runs next, gate by gate."""
    for ahead in range(layer + 1, layers):
        if ahead < 2:
            return ahead
        *weight, bias = gates.weights[ahead - 2].tolist()
        score = sum(w * h for w, h in zip(weight, state, strict=True)) + bias
        if 1 / (1 + np.exp(-score)) < gates.threshold:
            return ahead
    return max(layers, layer + 1)


@pytest.mark.parametrize("layers", [2, 3, 6, 12])
def test_rows_go_on_at_the_first_layer_whose_gate_lets_them_not_past(layers: int) -> None:
    chance = np.random.default_rng(layers)
    gates = SkipGates(0.4).with_weights(chance.normal(size=(layers - 2, 6)))
    states = chance.normal(size=(50, 5)).astype(np.float32)
    layer = chance.integers(1, layers + 1, 50)
    found = gates.following(states, layer)
    assert found.tolist() == [
        next_of_one(gates, *each, layers) for each in zip(states.tolist(), layer.tolist(), strict=True)
    ]
    assert (found > layer).all()
    for row in range(50):  # whoever else there is
        assert gates.following(states[row : row + 1], layer[row : row + 1])[0] == found[row]


def recording(depth: list[list[int]], sure: list[list[float]], gates: SkipGates) -> LayerOutputs:
    """Return what was said, by the layers run, with the probability of the first of two classes."""
    said = torch.tensor(sure)
    probs = torch.stack([said, 1 - said], -1)
    count = torch.full((len(depth),), 5)
    return LayerOutputs(probs.log(), probs, count, gates=gates, depth=torch.tensor(depth))


def test_a_replay_counts_layers_run_and_leaves_by_the_layer_that_said_it() -> None:
    gates = SkipGates()
    outputs = recording(
        [[1, 2, 3, 4, 5], [1, 4, 5, 5, 5], [1, 3, 5, 5, 5], [1, 5, 5, 5, 5]],
        [[0.6, 0.6, 0.99, 0.6, 0.6], [0.6, 0.99, 0.6, 0.6, 0.6], [0.6, 0.6, 0.9, 0.9, 0.9], [0.6, 0.9, 0.9, 0.9, 0.9]],
        gates,
    )
    sure = make("max_prob", threshold=0.95, gates=gates)
    assert replay(sure, outputs).tolist() == [3, 2, 3, 2]
    assert outputs.at(replay(sure, outputs))[:, 0].tolist() == pytest.approx([0.99, 0.99, 0.9, 0.9])
    # Nobody leaves before layer 4, or runs one beyond 3.
    assert replay(make("max_prob", threshold=0.95, min_layer=4, gates=gates), outputs).tolist() == [5, 2, 3, 2]
    assert replay(make("full", max_layer=3, gates=gates), outputs).tolist() == [3, 1, 2, 1]
    assert replay(make("fixed", layer=4, gates=gates), outputs).tolist() == [4, 2, 2, 1]
    part = outputs.select(torch.tensor([1, 3]))
    assert replay(sure, part).tolist() == [2, 2]
    with pytest.raises(UsageError, match="skips layers by gates None, the outputs were recorded with"):
        replay(make("full"), outputs)


def test_gates_are_part_of_a_policy_and_its_weights_a_tensor() -> None:
    weights = np.arange(8.0).reshape(2, 4)
    policy = make("entropy", gates=SkipGates(0.7).with_weights(weights))
    saved = json.loads(json.dumps(policy.to_dict()))
    assert saved["gates"] == {"threshold": 0.7}
    again = ExitPolicy.from_dict(saved, policy.tensors())
    assert again == policy == make("entropy", gates=0.7)
    assert again.gates.weights.tolist() == weights.tolist()
    assert "gates" not in make("entropy").to_dict()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"gates": 1.5}, "threshold is 1.5; allowed: a number from 0 to 1"),
        ({"gates": True}, "threshold is True"),
        ({"gates": "half"}, "threshold is 'half'"),
        ({"gates": {"treshold": 0.5}}, "gates have no 'treshold'; did you mean 'threshold'"),
        (
            {"gates": 0.5, "tokens": {"1": 0.5}},
            "drops tokens, and cannot skip layers by gates too; name another policy",
        ),
    ],
)
def test_gates_that_are_none_are_refused_in_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        make("entropy", **values)
    with pytest.raises(UsageError, match="learns from every layer's exit, and cannot skip layers by gates too"):
        make("certainty", gates=0.5)
    with pytest.raises(UsageError, match=r"allowed: \[layers - 2, units \+ 1\]"):
        SkipGates().with_weights([1.0])
