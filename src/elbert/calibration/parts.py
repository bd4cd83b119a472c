"""Which parts of the texts a promise must hold for one by one: classes, or the texts that leave at like depth.

A policy's p-value is the greatest over its parts: to say that all hold, each must be rejected at the full level, so
nothing is corrected for their number (an intersection-union test). n texts, M exits, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from elbert.calibration.losses import Losses
from elbert.errors import UsageError, did_you_mean
from elbert.results import LayerOutputs
from elbert.tasks import task_of

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# The test for a class: each of its texts is found or not.
CLASS_BOUND = "paired"


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the texts, and what leaving early costs each.

    Attributes:
        differences: of the texts of this part, in [-1, 1].
        bound: the test for them, one of `search.BOUNDS`.
    """

    differences: Array
    bound: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What a promise is about: all texts together, and whatever has to hold besides.

    Attributes:
        losses: of all texts.
        bound: the test for all texts.
        classes: for every protected class its texts [n] and their losses, 1 where the class is not found.
        conditional: whether the promise must hold among the texts that leave at layer l or before it, for every l.
    """

    losses: Losses
    bound: str
    classes: tuple[tuple[NDArray[np.bool_], Losses], ...] = ()
    conditional: bool = False

    def of(self, exit_layer: Rows, rows: Rows) -> list[Part]:
        """Return the parts of `rows` under one policy.

        Args:
            exit_layer: [n], from 1 to M, or 0 for layer 0.
            rows: indices of the texts that count.
        """
        differences = self.losses.differences(exit_layer)
        parts = [Part(differences[rows], self.bound)]
        for members, losses in self.classes:
            parts.append(Part(losses.differences(exit_layer)[rows[members[rows]]], CLASS_BOUND))
        if self.conditional:
            layers = exit_layer[rows]
            # At the last layer nothing is lost, and up to it all texts have left: that part is the first one.
            early = range(int(layers.min()), self.losses.by_exit.shape[1])
            parts += [Part(differences[rows[layers <= layer]], self.bound) for layer in early]
        return parts


def class_parts(
    outputs: LayerOutputs, labels: ArrayLike, classes: Sequence[int]
) -> tuple[tuple[NDArray[np.bool_], Losses], ...]:
    """Return the texts of every class named and whether each exit finds it in them.

    Args:
        outputs: a full-depth recording.
        labels: [n] or [n, C], encoded.
        classes: indices.
    """
    task, count = task_of(outputs.problem_type), outputs.probs.shape[-1]
    so = task.members(torch.as_tensor(np.asarray(labels)), count)
    said = [task.members(task.decisions(outputs.probs[:, layer]), count) for layer in range(outputs.probs.shape[1])]
    early = None if outputs.words is None else task.members(task.decisions(outputs.words), count)
    found = []
    for index in classes:
        if so is None:
            break
        missed = [1.0 - each[:, index].double().numpy() for each in (*said, early) if each is not None]
        by_words = None if early is None else missed.pop()
        found.append((so[:, index].numpy(), Losses(np.stack(missed, 1), "class not found", CLASS_BOUND, by_words)))
    return tuple(found)


def protected_classes(
    protect: Sequence[str], names: Sequence[str], *, per_class: bool, labelled: bool
) -> tuple[int, ...]:
    """Return the indices of the classes whose recall a promise must keep.

    Args:
        protect: names.
        names: of all classes; empty for regression.
        per_class: protect every class.
        labelled: whether the texts have labels.

    Raises:
        UsageError: an unknown class, or there are no labels or no classes to know recall by.
    """
    if not (protect or per_class):
        return ()
    if not names:
        raise UsageError("a regression has no classes to protect; leave out protect and per_class")
    if not labelled:
        raise UsageError("a class can be protected only where the texts have labels; leave out agreement, or protect")
    if per_class:
        return tuple(range(len(names)))
    for name in protect:
        if name not in names:
            raise UsageError(f"unknown class {name!r} to protect{did_you_mean(name, names)}")
    return tuple(dict.fromkeys(names.index(name) for name in protect))
