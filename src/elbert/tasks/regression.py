"""A value a text, or several: no probabilities, so neither entropy nor confidence; squared error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from elbert.arrays import Array, amax, namespace
from elbert.errors import UsageError
from elbert.tasks.base import Task, narrow, spread

if TYPE_CHECKING:
    from torch import Tensor


class _Regression(Task):
    def probabilities(self, logits: Array) -> Array:
        return logits

    def logits(self, probs: Array) -> Array:
        return probs

    def entropy(self, probs: Array) -> Array:
        return namespace(probs).full_like(probs[..., 0], math.inf)

    def confidence(self, probs: Array) -> Array:
        return namespace(probs).full_like(probs[..., 0], -math.inf)

    def energy(self, logits: Array) -> Array:
        return self.confidence(logits)

    def same(self, previous: Array, current: Array, tolerance: float) -> Array:
        return (abs(previous - current) < tolerance).all(-1)

    def distance(self, previous: Array, current: Array) -> Array:
        return amax(abs(previous - current), -1)

    def monotone(self, window: Array) -> Array:
        now = window[:, -1]
        return namespace(now).isnan(now).any(-1)  # nowhere: a value that creeps in one direction has not settled

    def within_range(self, window: Array, tolerance: float) -> Array:
        return narrow(window, tolerance)

    def agreement(self, window: Array, tolerance: float) -> Array:
        return (abs(window[:, 1:] - window[:, :-1]) <= tolerance).all(-1).all(-1)

    def decisions(self, probs: Array) -> Array:
        return probs.squeeze(-1) if probs.shape[-1] == 1 else probs

    def answers(self, probs: Array, names: Sequence[str]) -> list[tuple[Any, Any]]:
        del names
        return [(row[0] if len(row) == 1 else tuple(row), None) for row in probs.tolist()]

    def encoded(self, label: Any, names: Sequence[str]) -> Any:
        del names
        return label

    def words(self, row: Sequence[float], names: Sequence[str]) -> str:
        del names
        return ", ".join(f"{value:.2f}" for value in row)

    def quoted(self, row: Sequence[float], names: Sequence[str]) -> str:
        del names
        return "value " + ", ".join(f"{value:.4g}" for value in row)

    def span(self, values: Sequence[float]) -> tuple[float, float]:
        low, high = min(values), max(values)
        spare = max((high - low) * 0.15, 0.05)
        return low - spare, high + spare

    def number(self, value: float) -> str:
        return f"{value:.3f}"

    def kept(self, names: tuple[str, ...]) -> tuple[str, ...]:
        del names
        return ()

    def outputs(self, count: int | None, names: Sequence[str] | None) -> tuple[str, ...]:
        if count not in (None, 1) or len(names or ()) > 1:
            raise UsageError(f"regression has one output, not {count or len(names or ())}")
        return tuple(names or ("score",))

    def units(self, labels: Any) -> tuple[float, float] | None:
        import torch

        values = torch.tensor(labels, dtype=torch.float64)
        deviation = float(values.std(correction=0))
        return float(values.mean()), deviation if deviation > 0 else 1.0

    def exit_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn.functional import mse_loss

        return mse_loss(logits, spread(labels, logits), reduction="none").mean(2)

    def divergence(self, logits: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        del temperature
        return (logits - theirs).square().mean(-1)

    def wrongness(self, probs: Array, targets: Array) -> Array:
        return amax(abs(namespace(probs).tanh(probs - targets.reshape(len(targets), 1, -1))), -1)

    def mistakes(self, decided: Tensor, wanted: Tensor, metric: str, scale: float) -> tuple[Tensor, str, bool]:
        del metric
        texts = len(wanted)
        distance = (decided.reshape(texts, -1) - wanted.reshape(texts, -1)).abs().mean(-1)
        return (distance / scale).clamp(0, 1), f"distance from the right value / {scale:g}, at most 1", False

    def right(self, probs: Tensor, labels: Tensor) -> Tensor | None:
        del probs, labels
        return None

    def level(self, probs: Tensor) -> Tensor:
        return probs.mean(-1)

    def offer(self, names: Sequence[str]) -> str:
        del names
        return "Regression: one number."


REGRESSION: Task = _Regression(
    "regression",
    ("pearson", "spearman"),
    gives="a number a text",
    kind="numbers to predict (regression)",
    has_classes=False,
    scale_share=0.1,
    measure="value",
    criterion="range",  # one value has no probabilities that could all move one way
)
