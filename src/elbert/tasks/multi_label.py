"""Any number of labels a text, each said or not by itself from `LABEL_CUT` on: sigmoid, binary cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elbert.arrays import Array, amax, amin, namespace, sigmoid, xlogx
from elbert.results import LABEL_CUT
from elbert.tasks.base import NOTHING, Task, spread

if TYPE_CHECKING:
    from torch import Tensor


class _MultiLabel(Task):
    def probabilities(self, logits: Array) -> Array:
        return sigmoid(logits)

    def logits(self, probs: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(probs) - np.log1p(-probs)

    def entropy(self, probs: Array) -> Array:
        return -amin(_yes_or_no(probs), -1)

    def normalised_entropy(self, probs: Array) -> Array:
        return self.entropy(probs) / math.log(2)

    def confidence(self, probs: Array) -> Array:
        return amin(_sure(probs), -1)

    def energy(self, logits: Array) -> Array:
        xp, size = namespace(logits), abs(logits) / 2
        return amin(size + xp.log1p(xp.exp(-2 * size)), -1)

    def same(self, previous: Array, current: Array, tolerance: float) -> Array:
        del tolerance
        return ((previous >= LABEL_CUT) == (current >= LABEL_CUT)).all(-1)

    def distance(self, previous: Array, current: Array) -> Array:
        each = (_yes_or_no(previous) + _yes_or_no(current)) / 2 - _yes_or_no((previous + current) / 2)
        return amax(each, -1).clip(min=0)  # rounding can end below 0

    def monotone(self, window: Array) -> Array:
        before, after, decided = window[:, :-1], window[:, 1:], window[:, -1] >= LABEL_CUT
        away = namespace(window).where(decided, (after >= before).all(1), (after <= before).all(1))
        return (away & (decided == (window[:, 0] >= LABEL_CUT))).all(-1)

    def decisions(self, probs: Array) -> Array:
        return (probs >= LABEL_CUT) * 1.0

    def answers(self, probs: Array, names: Sequence[str]) -> list[tuple[Any, Any]]:
        found = []
        for row in probs.tolist():
            said = self.chosen(row)
            found.append((tuple(names[at] for at in said), tuple(row[at] for at in said)))
        return found

    def encoded(self, label: Any, names: Sequence[str]) -> Any:
        return [float(name in label) for name in names]

    def words(self, row: Sequence[float], names: Sequence[str]) -> str:
        return " + ".join(names[at] for at in self.chosen(row)) or NOTHING

    def chosen(self, row: Sequence[float]) -> list[int]:
        return [index for index, p in enumerate(row) if p >= LABEL_CUT]

    def items(self, value: Any, split: Callable[[Any], list[Any]]) -> list[Any]:
        return split(value)

    def target(self, ids: Sequence[int], classes: int) -> Any:
        return [float(index in ids) for index in range(classes)]

    def members(self, labels: Tensor, classes: int) -> Tensor | None:
        del classes
        return labels.bool()

    def nothing_to_learn(self, labels: Sequence[Any], names: Sequence[str]) -> str | None:
        if not any(any(row) for row in labels):
            return "every label set is empty; training needs rows that have labels"
        if any(row != labels[0] for row in labels):
            return None
        said = self.words(labels[0], names)
        return f"every one of its {len(labels)} rows has the labels {said!r}; training needs two different sets"

    def start_bias(self, labels: Sequence[Any], classes: int) -> Tensor | None:
        del classes
        import torch

        # The log-odds of each label's share, half a row added on both sides.
        values = torch.tensor(labels, dtype=torch.float64)
        return ((values.sum(0) + 0.5) / (len(values) + 1)).logit()

    def exit_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(logits, spread(labels, logits), reduction="none").mean(2)

    def divergence(self, logits: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        from torch.nn.functional import logsigmoid

        wanted, mine = theirs / temperature, logits / temperature
        yes, no = (logsigmoid(sign * wanted) - logsigmoid(sign * mine) for sign in (1, -1))
        return temperature**2 * (wanted.sigmoid() * yes + (-wanted).sigmoid() * no).mean(-1)

    def wrongness(self, probs: Array, targets: Array) -> Array:
        return ((probs >= LABEL_CUT) != (targets[:, None] >= LABEL_CUT)).any(-1)

    def mistakes(self, decided: Tensor, wanted: Tensor, metric: str, scale: float) -> tuple[Tensor, str, bool]:
        del scale
        if metric == "accuracy":
            return (decided != wanted).any(-1).double(), "wrong set of labels", True
        both, either = (decided * wanted).sum(-1), decided.sum(-1) + wanted.sum(-1)
        # Nothing to find and nothing found is right.
        return (1 - 2 * both / either.clamp_min(1)).where(either > 0, either * 0.0), "1 - F1 of a text", False

    def bets(self, probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        right = (probs >= LABEL_CUT) == labels.bool()
        return _sure(probs).flatten(), right.flatten(), labels.double()  # a text decides C times


def _sure(probs: Array) -> Array:
    return namespace(probs).maximum(probs, 1 - probs)


def _yes_or_no(probs: Array) -> Array:
    """Return the negative entropy in nats of each label's yes or no, shaped as `probs`."""
    return xlogx(probs) + xlogx(1 - probs)


MULTI_LABEL: Task = _MultiLabel(
    "multi_label_classification",
    ("f1_micro", "f1_macro", "accuracy"),
    gives="any number of labels a text",
    kind="multi-label classification",
    several="but one item of a set is one label; give the items one by one",
    choice="any of",
    answer_dtype="uint8",
    empty="",  # in CSV nothing can't be told from no characters
    squash="sigmoid",
)
