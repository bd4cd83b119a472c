"""What the tests of exit policies share: random but plausible outputs, and a scheduler where rows join and leave."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from elbert.arrays import to_numpy
from elbert.exits import ExitPolicy
from elbert.exits.state import join, select
from elbert.results import ExitOutput, LayerOutputs
from tests.exits.ready import outputs_of

MakeOutputs = Callable[..., LayerOutputs]


@pytest.fixture(scope="session")
def make_outputs() -> MakeOutputs:
    """Return a function that makes recorded outputs from a seed."""
    return outputs_of


@pytest.fixture(scope="session")
def run_in_flight() -> Callable[[ExitPolicy, LayerOutputs, int], list[int]]:
    """Return a function that runs a policy as an engine would: rows join at any time, are mixed, and leave."""

    def run(policy: ExitPolicy, outputs: LayerOutputs, seed: int) -> list[int]:
        rng = random.Random(seed)
        texts, layers, classes = outputs.probs.shape
        probs, logits = to_numpy(outputs.probs), to_numpy(outputs.logits)
        pooled = None if outputs.pooled is None else to_numpy(outputs.pooled)
        waiting = rng.sample(range(texts), texts)
        rows, layer = np.empty(0, np.int64), np.empty(0, np.int64)
        state = policy.start(0, classes)
        exits = [0] * texts
        while waiting or len(rows):
            new = [waiting.pop() for _ in range(min(len(waiting), rng.randint(0, 3)))]
            rows = np.concatenate((rows, np.array(new, np.int64)))
            layer = np.concatenate((layer, np.zeros(len(new), np.int64))) + 1
            state = join(state, policy.start(len(new), classes))
            order = np.array(rng.sample(range(len(rows)), len(rows)), np.int64)
            rows, layer, state = rows[order], layer[order], select(state, order)
            read = None if pooled is None else pooled[rows, layer - 1]
            output = ExitOutput(probs[rows, layer - 1], logits[rows, layer - 1], read, outputs.problem_type)
            leave, state = policy.update(state, output, layer)
            leave = leave | (layer == layers)
            for row, depth in zip(rows[leave].tolist(), layer[leave].tolist(), strict=True):
                exits[row] = depth
            rows, layer, state = rows[~leave], layer[~leave], select(state, ~leave)
        return exits

    return run
