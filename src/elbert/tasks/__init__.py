"""What a problem type means: a file each, and the only place that tells them apart. Needs no torch to be imported."""

from __future__ import annotations

from elbert.errors import UsageError, did_you_mean
from elbert.results import ExitOutput, LayerOutputs
from elbert.tasks.base import Task
from elbert.tasks.multi_label import MULTI_LABEL
from elbert.tasks.regression import REGRESSION
from elbert.tasks.single_label import SINGLE_LABEL

TASKS: dict[str, Task] = {task.problem_type: task for task in (SINGLE_LABEL, MULTI_LABEL, REGRESSION)}

__all__ = ["MULTI_LABEL", "REGRESSION", "SINGLE_LABEL", "TASKS", "Task", "default_task", "fits", "reading", "task_of"]


def task_of(problem_type: str, num_labels: int | None = None) -> Task:
    """Return the task of a problem type.

    Args:
        problem_type: one of transformers' three words.
        num_labels: C where it is known: a softmax over one class says nothing, so its logit is read as a value.

    Raises:
        UsageError: there is no such problem type.
    """
    if not isinstance(problem_type, str) or problem_type not in TASKS:
        raise UsageError(f"unknown problem_type {problem_type!r}{did_you_mean(problem_type, TASKS)}")
    task = TASKS[problem_type]
    return REGRESSION if task.exclusive and num_labels == 1 else task


def fits(problem_type: str, num_labels: int) -> bool:
    """Tell whether there is such a problem type, and a model of so many outputs can have it."""
    return (
        isinstance(problem_type, str)
        and problem_type in TASKS
        and task_of(problem_type, num_labels) is TASKS[problem_type]
    )


def reading(output: ExitOutput | LayerOutputs) -> Task:
    """Return how the probabilities of an exit, or of a recording, are to be read."""
    return task_of(output.problem_type, output.probs.shape[-1])


def default_task(num_labels: int) -> Task:
    """Return the task of a model that does not say which it has, as transformers guesses it."""
    return REGRESSION if num_labels == 1 else SINGLE_LABEL
