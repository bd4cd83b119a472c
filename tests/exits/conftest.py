"""What the tests of exit policies share: random but plausible outputs, and a scheduler where rows join and leave."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from elbert.exits import ExitPolicy
from elbert.exits.ops import to_numpy
from elbert.exits.state import join, select
from elbert.results import ExitOutput, LayerOutputs, ProblemType

MakeOutputs = Callable[..., LayerOutputs]


def _logits(generator: torch.Generator, texts: int, layers: int, classes: int) -> Tensor:
    """Texts of four kinds: noise, a steady trend, rising steps with ties, and saturated (probabilities 0 and 1)."""
    shape = (texts, layers, classes)
    noise = torch.randn(shape, generator=generator)
    trend = torch.randn(texts, 1, classes, generator=generator) * torch.linspace(0.2, 3, layers)[:, None] + 0.05 * noise
    steps = torch.randint(0, 3, shape, generator=generator).float().cummax(1).values
    saturated = torch.randint(-1, 2, shape, generator=generator) * 200.0
    kinds = torch.stack((2 * noise, trend, steps, saturated))
    return kinds[torch.randint(0, 4, (texts,), generator=generator), torch.arange(texts)]


@pytest.fixture(scope="session")
def make_outputs() -> MakeOutputs:
    """Return a function that makes recorded outputs from a seed."""

    def make(
        seed: int,
        *,
        texts: int = 8,
        layers: int = 12,
        classes: int = 3,
        problem_type: ProblemType = "single_label_classification",
        pooled: int = 0,
    ) -> LayerOutputs:
        logits = _logits(torch.Generator().manual_seed(seed), texts, layers, classes)
        probs = {
            "single_label_classification": lambda: logits.softmax(-1),
            "multi_label_classification": lambda: logits.sigmoid(),
            "regression": lambda: logits / 10,
        }[problem_type]()
        states = torch.randn(texts, layers, pooled, generator=torch.Generator().manual_seed(seed)) if pooled else None
        return LayerOutputs(logits, probs, torch.full((texts,), 5), states, problem_type)

    return make


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
