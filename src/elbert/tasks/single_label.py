"""One class a text: softmax, cross-entropy, the most probable class; of equals the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elbert.arrays import Array, amax, namespace, pick, softmax, to_numpy, xlogx
from elbert.tasks.base import Task, narrow

if TYPE_CHECKING:
    from torch import Tensor


class _SingleLabel(Task):
    def probabilities(self, logits: Array) -> Array:
        return softmax(logits)

    def logits(self, probs: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(probs)

    def entropy(self, probs: Array) -> Array:
        return -xlogx(probs).sum(-1)

    def confidence(self, probs: Array) -> Array:
        return amax(probs, -1)

    def energy(self, logits: Array) -> Array:
        xp, most = namespace(logits), amax(logits, -1)
        return most + xp.log(xp.exp(logits - most[:, None]).sum(-1))

    def for_class(self, logits: Array, place: int) -> Array:
        own, others = logits[..., place], max(logits.shape[-1] - 1, 1)
        return own - (logits.sum(-1) - own) / others

    def same(self, previous: Array, current: Array, tolerance: float) -> Array:
        del tolerance
        return previous.argmax(-1) == current.argmax(-1)

    def distance(self, previous: Array, current: Array) -> Array:
        each = (xlogx(previous) + xlogx(current)) / 2 - xlogx((previous + current) / 2)
        return each.sum(-1).clip(min=0)  # rounding can end below 0

    def monotone(self, window: Array) -> Array:
        label, rises = window[:, -1].argmax(-1), (window[:, 1:] >= window[:, :-1]).all(1)
        return pick(rises, label) & (label == window[:, 0].argmax(-1))

    def within_range(self, window: Array, tolerance: float) -> Array:
        return narrow(amax(window, -1)[..., None], tolerance) & self.agreement(window, tolerance)

    def decisions(self, probs: Array) -> Array:
        return probs.argmax(-1)

    def answers(self, probs: Array, names: Sequence[str]) -> list[tuple[Any, Any]]:
        said = to_numpy(probs)  # numpy's operations cost a fraction of a tensor's for the few rows that leave at a step
        labels = [names[index] for index in said.argmax(-1).tolist()]
        return list(zip(labels, said.max(-1).tolist(), strict=True))

    def encoded(self, label: Any, names: Sequence[str]) -> Any:
        return names.index(label)

    def words(self, row: Sequence[float], names: Sequence[str]) -> str:
        return names[self.chosen(row)[0]]

    def gold_words(self, gold: Any, names: Sequence[str]) -> str:
        return names[int(gold)]

    def chosen(self, row: Sequence[float]) -> list[int]:
        return [max(range(len(row)), key=row.__getitem__)]

    def rest(self, probs: Tensor) -> tuple[str, Tensor]:
        return f"{probs.shape[1]} other classes together", probs.sum(1)

    def items(self, value: Any, split: Callable[[Any], list[Any]]) -> list[Any]:
        del split
        return [value]

    def target(self, ids: Sequence[int], classes: int) -> Any:
        del classes
        return ids[0]

    def of_one_class(self, labels: Any) -> Any:
        return labels

    def members(self, labels: Tensor, classes: int) -> Tensor | None:
        from torch.nn.functional import one_hot

        return one_hot(labels.long(), classes).bool()

    def start_bias(self, labels: Sequence[Any], classes: int) -> Tensor | None:
        import torch

        # The log of each class's share, half a row added to every class; meaned to 0, where even shares then lie.
        shares = torch.bincount(torch.tensor(labels), minlength=classes).double() + 0.5
        return shares.log() - shares.log().mean()

    def exit_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        batch, exits, _ = logits.shape
        targets = labels.long().view(batch, 1).expand(batch, exits)
        return cross_entropy(logits.transpose(1, 2), targets, reduction="none")

    def divergence(self, logits: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        wanted, mine = ((each / temperature).log_softmax(-1) for each in (theirs, logits))
        return temperature**2 * (wanted.exp() * (wanted - mine)).sum(-1)

    def wrongness(self, probs: Array, targets: Array) -> Array:
        return probs.argmax(-1) != targets[:, None]

    def mistakes(self, decided: Tensor, wanted: Tensor, metric: str, scale: float) -> tuple[Tensor, str, bool]:
        del metric, scale
        return (decided != wanted).double(), "wrong label", True

    def bets(self, probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from torch.nn.functional import one_hot

        top, answer = probs.max(-1)
        return top, answer == labels, one_hot(labels.long(), probs.shape[-1]).double()


SINGLE_LABEL: Task = _SingleLabel(
    "single_label_classification",
    ("accuracy", "f1_micro", "f1_macro", "f1_binary", "matthews"),
    gives="one label a text",
    kind="single-label classification",
    several=(
        # Many a multi-label model never says so.
        "but the model is single-label by its config; if its labels are independent, pass --problem-type "
        "multi_label_classification, or set problem_type to that in its config.json"
    ),
    choice="one of",
    target_dtype="int64",
    answer_dtype="int32",
    exclusive=True,
    fewest=2,
    squash="softmax",
)
