"""Which runs of tokens made layer 0 say what it said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from elbert.tasks import Task
from elbert.words import WordModel

# Runs that are told, those that weigh most.
_MOST = 8


def telling_grams(
    words: WordModel, ids: Sequence[int], task: Task, decode: Callable[[Sequence[int]], str]
) -> tuple[tuple[str, float], ...]:
    """Return the runs of one to three tokens that weigh most in what layer 0 says of a text, the heaviest first.

    Args:
        words: layer 0.
        ids: the tokens it read.
        task: how its logits are read.
        decode: gives the text of tokens, special ones included.

    Returns:
        (run, weight) pairs: how much the run speaks for the class that layer 0 finds most probable, see
        `Task.for_class`; below 0 it speaks against it.
    """
    first, size, added = words.weighed(ids)
    said = int((words.bias + added.sum(0)).argmax())
    weight = task.for_class(added, said)
    order = (-abs(weight)).argsort(kind="stable")[:_MOST].tolist()
    return tuple((decode(ids[first[at] : first[at] + size[at]]), float(weight[at])) for at in order)
