"""Recorded outputs without a model: texts of two or three classes that get easier to tell apart layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from elbert.exits.gates import Shortcut, SkipGates, shortcut_field
from elbert.results import LayerOutputs

Record = Callable[..., tuple[LayerOutputs, Any]]


def leaving_out(outputs: LayerOutputs, way: Shortcut, wrong: Tensor | None = None) -> LayerOutputs:
    """Return the recording as if rows had dropped tokens, or skipped layers 2 to 4; `wrong` [N] get other answers."""
    turned = torch.zeros(len(outputs.probs), dtype=torch.bool) if wrong is None else wrong
    logits = torch.where(turned[:, None, None], outputs.logits.roll(1, -1), outputs.logits)
    depths = None
    if isinstance(way, SkipGates):
        depth = torch.tensor([1, 5, 6, 6, 6, 6])
        logits, depths = logits[:, depth - 1], depth.expand(len(logits), -1)
    return replace(outputs, logits=logits, probs=logits.softmax(-1), depth=depths, **shortcut_field(way))


def some(share: float, texts: int) -> Tensor:
    """Return which texts are of a share drawn at random, [N]."""
    return torch.rand(texts, generator=torch.Generator().manual_seed(1)) < share


def late(outputs: LayerOutputs) -> LayerOutputs:
    """Return the recording with two first layers that know nothing, so that nobody leaves before layer 3."""
    logits = outputs.logits.clone()
    logits[:, :2] = 0
    return replace(outputs, logits=logits, probs=logits.softmax(-1))


@pytest.fixture(scope="session")
def record() -> Record:
    """`record(texts, layers=6, classes=3, kind=..., seed=0)`: (outputs, labels) of texts of which a fifth are hard."""

    def make(
        texts: int, layers: int = 6, classes: int = 3, kind: Any = "single_label_classification", seed: int = 0
    ) -> tuple[LayerOutputs, Any]:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(texts, 1, classes, generator=generator) * 2
        noise = noise + torch.randn(texts, layers, classes, generator=generator)
        strength = torch.linspace(2, 6, layers)[None, :, None] * (torch.rand(texts, 1, 1, generator=generator) + 0.2)
        lengths = torch.full((texts,), 8)
        if kind == "regression":
            values = 5 * torch.rand(texts, generator=generator)
            said = values[:, None, None] + noise[..., :1] * torch.linspace(0.3, 0.1, layers)[None, :, None]
            return LayerOutputs(said, said, lengths, problem_type=kind), values.tolist()
        if kind == "multi_label_classification":
            wanted = (torch.rand(texts, classes, generator=generator) < 0.4).float()
            logits = (2 * wanted[:, None] - 1) * strength + noise
            return LayerOutputs(logits, logits.sigmoid(), lengths, problem_type=kind), wanted.tolist()
        labels = torch.randint(0, classes, (texts,), generator=generator)
        logits = torch.nn.functional.one_hot(labels, classes)[:, None] * strength + noise
        return LayerOutputs(logits, logits.softmax(-1), lengths), labels.tolist()

    return make
