"""Where the head starts and in which units it learns values, so that the encoder need not learn the labels' mean.

A fresh head answers 0 to everything. AdamW moves its bias by no more than the learning rate a step, so over a short
training a mean of 2.7, or the log-odds of a rare label, can only come through the pooled state: the encoder learns to
say the same of every text, and stays so. The mean is known before the first step, so the head is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from elbert.data import TextDataset
from elbert.modeling import MultiExitModel
from elbert.tasks import task_of


def start_head(model: MultiExitModel, dataset: TextDataset, *, balanced: bool = False) -> None:
    """Let a fresh head answer the labels' mean; a head with a bias of its own has been trained, and is left alone.

    Single label: the bias is the log of each class's share of the rows, half a row added to every class. Multi-label:
    the log-odds of each label's share, half a row added on both sides. Regression: the mean, and the weights are as
    large as the values' spread.

    Args:
        model: changed in place.
        dataset: labelled texts to learn from.
        balanced: every class weighs as much as every other in the loss, so that a bias of 0 is right.
    """
    if dataset.labels is None or any(bool(bias.any()) for _, bias in _outs(model)):
        return
    units = ValueUnits.of(dataset)
    if units is not None:
        units.restore(model)
        return
    start = task_of(model.problem_type).start_bias(dataset.labels, model.config.num_labels)
    if start is not None and not balanced:
        with torch.no_grad():
            for _, bias in _outs(model):
                bias.copy_(start)


@dataclass(frozen=True, slots=True)
class ValueUnits:
    """The units in which a regression is learnt: values minus their mean, over their standard deviation.

    So neither learning rate, clipping nor loss depends on whether a price is in cents or in millions. The model takes
    values in their own units before training and gives them in these again afterwards.

    Attributes:
        mean: of the training labels.
        scale: their standard deviation, above 0.
    """

    mean: float
    scale: float

    @classmethod
    def of(cls, dataset: TextDataset) -> ValueUnits | None:
        """Return the units of a data set's labels; None where they are no values."""
        space = dataset.label_space
        units = None if space is None else space.task.units(dataset.labels)
        return None if units is None else cls(*units)

    def encoded(self, dataset: TextDataset) -> TextDataset:
        """Return the data set with its labels in these units."""
        return replace(dataset, labels=[(float(value) - self.mean) / self.scale for value in _values(dataset)])

    def enter(self, model: MultiExitModel) -> None:
        """Let the model, which answers in the labels' own units, answer in these."""
        with torch.no_grad():
            for weight, bias in _outs(model):
                weight.div_(self.scale)
                bias.sub_(self.mean).div_(self.scale)

    def restore(self, model: MultiExitModel) -> None:
        """Let the model, which answers in these units, answer in the labels' own."""
        with torch.no_grad():
            for weight, bias in _outs(model):
                weight.mul_(self.scale)
                bias.mul_(self.scale).add_(self.mean)


def _values(dataset: TextDataset) -> list[float]:
    return [value for value in dataset.labels or () if isinstance(value, (int, float))]


def _outs(model: MultiExitModel) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weight [..., C, H] and bias [..., C] of every exit's last Linear."""
    out = model.family.head(model.backbone)[2]
    yield out.weight, out.bias
    if model.exit_heads is not None:
        yield model.exit_heads.out_weight, model.exit_heads.out_bias
