"""Random but plausible recordings, and policies fitted on some, for tests that go over every policy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elbert.exits import ExitPolicy, make
from elbert.results import LayerOutputs, ProblemType


def _logits(generator: torch.Generator, texts: int, layers: int, classes: int) -> Tensor:
    """Texts of four kinds: noise, a steady trend, rising steps with ties, and saturated (probabilities 0 and 1)."""
    shape = (texts, layers, classes)
    noise = torch.randn(shape, generator=generator)
    trend = torch.randn(texts, 1, classes, generator=generator) * torch.linspace(0.2, 3, layers)[:, None] + 0.05 * noise
    steps = torch.randint(0, 3, shape, generator=generator).float().cummax(1).values
    saturated = torch.randint(-1, 2, shape, generator=generator) * 200.0
    kinds = torch.stack((2 * noise, trend, steps, saturated))
    return kinds[torch.randint(0, 4, (texts,), generator=generator), torch.arange(texts)]


def outputs_of(
    seed: int,
    *,
    texts: int = 8,
    layers: int = 12,
    classes: int = 3,
    problem_type: ProblemType = "single_label_classification",
    pooled: int = 4,
) -> LayerOutputs:
    """Return a recording with pooled states of `pooled` units."""
    logits = _logits(torch.Generator().manual_seed(seed), texts, layers, classes)
    probs = {
        "single_label_classification": lambda: logits.softmax(-1),
        "multi_label_classification": lambda: logits.sigmoid(),
        "regression": lambda: logits / 10,
    }[problem_type]()
    states = torch.randn(texts, layers, pooled, generator=torch.Generator().manual_seed(seed + 1))
    return LayerOutputs(logits, probs, torch.full((texts,), 5), states, problem_type)


def targets_of(seed: int, texts: int, classes: int, problem_type: str) -> np.ndarray[Any, Any]:
    """Return right answers that have nothing to do with the recording but their shape."""
    generator = np.random.default_rng(seed)
    if problem_type == "single_label_classification":
        return generator.integers(0, classes, texts)
    shape = (texts, classes)
    return generator.normal(size=shape) if problem_type == "regression" else generator.integers(0, 2, shape)


def ready(name: str, outputs: LayerOutputs, **parameters: Any) -> ExitPolicy:
    """Return the policy of that name; one that learns is fitted on another recording of the same shape."""
    policy = make(name, **parameters)
    if not policy.learned:
        return policy
    _, layers, classes = outputs.probs.shape
    hidden = 4 if outputs.pooled is None else outputs.pooled.shape[-1]
    return policy.with_tensors(_tensors(name, layers, classes, outputs.problem_type, hidden))


@cache
def _tensors(name: str, layers: int, classes: int, problem_type: ProblemType, hidden: int) -> dict[str, Any]:
    seen = outputs_of(99, texts=40, layers=layers, classes=classes, problem_type=problem_type, pooled=hidden)
    return make(name).fit(seen, targets_of(99, 40, classes, problem_type)).tensors()
