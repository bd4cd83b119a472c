"""The classes of a head: from what a caller says of them, and whether a checkpoint's are those of the data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from elbert.errors import UsageError
from elbert.results import ProblemType
from elbert.tasks import SINGLE_LABEL, default_task, task_of


@dataclass(frozen=True, slots=True)
class Classes:
    """What a head answers.

    Attributes:
        names: one per class, in the order of the logits; `("score",)` for regression.
        problem_type: how to read the logits.
    """

    names: tuple[str, ...]
    problem_type: ProblemType

    def config_fields(self) -> dict[str, Any]:
        """Return the fields of a transformers configuration that say the same."""
        return {
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: index for index, name in enumerate(self.names)},
            "problem_type": self.problem_type,
        }


def make_classes(num_labels: int | None, labels: Sequence[str] | None, problem_type: str | None) -> Classes | None:
    """Return the classes these arguments of `load_model` describe, or None where they are all None.

    Args:
        num_labels: count of classes, where they have no names.
        labels: names of the classes; may be empty for regression.
        problem_type: one of transformers' three words; by default regression for one label without a name, otherwise
            single label.

    Raises:
        UsageError: they contradict each other or leave the count of classes open.
    """
    if num_labels is None and labels is None and problem_type is None:
        return None
    if isinstance(labels, str):
        raise UsageError(f"labels must be a list of class names, not the string {labels!r}")
    if problem_type is not None:
        task = task_of(problem_type)
    else:
        task = SINGLE_LABEL if labels else default_task(num_labels or 0)
    return Classes(task.outputs(num_labels, labels), task.problem_type)


def as_the_data_spells(model: Sequence[str], data: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of a checkpoint's classes in its order, spelt as the data spells them.

    The same names in another order are the same classes; so are names that differ in case, blanks, `-` and `_` only,
    and the numbers 0 to C - 1 where the checkpoint calls its classes `LABEL_0` to `LABEL_C-1`, or the reverse.

    Args:
        model: names of the checkpoint's classes, by id.
        data: names of the data's classes.

    Returns:
        None where they are other classes.
    """
    if set(model) == set(data):
        return tuple(model)
    ours, theirs = [_folded(name) for name in model], {_folded(name): name for name in data}
    if len(set(ours)) != len(ours) or len(theirs) != len(data) or set(ours) != set(theirs):
        return None
    return tuple(theirs[name] for name in ours)


def _folded(name: str) -> str:
    folded = re.sub(r"[\s_-]+", " ", name.strip().casefold())
    number = re.fullmatch(r"label (\d+)", folded)
    return folded if number is None else number[1]
