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
        (run, weight) pairs: what the run adds to the logit of the class that layer 0 finds most probable, where exactly
        one class is right above what it adds to the others in the mean; below 0 it speaks against that class.
    """
    first, size, added = words.weighed(ids)
    said = int((words.bias + added.sum(0)).argmax())
    weight = added[:, said]
    if task.exclusive:
        weight = weight - (added.sum(1) - weight) / max(words.num_labels - 1, 1)
    order = (-abs(weight)).argsort(kind="stable")[:_MOST].tolist()
    return tuple((decode(ids[first[at] : first[at] + size[at]]), float(weight[at])) for at in order)
