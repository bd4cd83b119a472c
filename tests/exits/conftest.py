"""What the tests of exit policies share: random but plausible outputs, and a scheduler where rows join and leave."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from elbert.exits import ExitPolicy
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
    ) -> LayerOutputs:
        logits = _logits(torch.Generator().manual_seed(seed), texts, layers, classes)
        probs = {
            "single_label_classification": lambda: logits.softmax(-1),
            "multi_label_classification": lambda: logits.sigmoid(),
            "regression": lambda: logits / 10,
        }[problem_type]()
        return LayerOutputs(logits, probs, torch.full((texts,), 5), None, problem_type)

    return make


@pytest.fixture(scope="session")
def run_in_flight() -> Callable[[ExitPolicy, LayerOutputs, int], list[int]]:
    """Return a function that runs a policy as an engine would: rows join at any time, are mixed, and leave."""

    def run(policy: ExitPolicy, outputs: LayerOutputs, seed: int) -> list[int]:
        rng = random.Random(seed)
        texts, layers, classes = outputs.probs.shape
        waiting = rng.sample(range(texts), texts)
        rows, layer = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        state = policy.start(0, num_labels=classes)
        exits = [0] * texts
        while waiting or len(rows):
            new = [waiting.pop() for _ in range(min(len(waiting), rng.randint(0, 3)))]
            rows = torch.cat((rows, torch.tensor(new, dtype=torch.int64)))
            layer = torch.cat((layer, torch.zeros(len(new), dtype=torch.int64))) + 1
            # Some rows are started without being told C, as the contract allows.
            state = join(state, policy.start(len(new), num_labels=rng.choice((None, classes))))
            order = torch.tensor(rng.sample(range(len(rows)), len(rows)), dtype=torch.int64)
            rows, layer, state = rows[order], layer[order], select(state, order)
            output = ExitOutput(
                outputs.probs[rows, layer - 1], outputs.logits[rows, layer - 1], None, outputs.problem_type
            )
            leave, state = policy.update(state, output, layer)
            leave = leave | (layer == layers)
            for row, depth in zip(rows[leave].tolist(), layer[leave].tolist(), strict=True):
                exits[row] = depth
            rows, layer, state = rows[~leave], layer[~leave], select(state, ~leave)
        return exits

    return run
