"""Which classes are rare in the training data, and what follows: the default metric, a warning, the weight of a row.

Only one label a text is asked about: where a text may have several, each is a question of its own.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter

from elbert.data import TextDataset
from elbert.errors import DataWarning, UsageError
from elbert.scoring.metrics import metric_name
from elbert.tasks import task_of

logger = logging.getLogger(__name__)

# A class is rare below this share of the rows, if it is also below this part of an even share (of 150 classes none is
# rare for being one of many); or where the most frequent one has so many times its rows.
RARE_SHARE, PART_OF_EVEN, MOST_TO_LEAST = 0.05, 0.5, 10
_SHOWN = 3


def class_counts(dataset: TextDataset) -> list[int] | None:
    """Return how many rows each class has, [C]; None where a text has not exactly one of several classes."""
    space = dataset.label_space
    ids = None if space is None else task_of(space.problem_type, space.num_labels).of_one_class(dataset.labels)
    if space is None or ids is None:
        return None
    counted = Counter(ids)
    return [counted[index] for index in range(space.num_labels)]


def rare_classes(dataset: TextDataset) -> dict[str, float]:
    """Return the share of the rows that each rare class has, by name, the rarest first; empty where none is rare."""
    counts, space = class_counts(dataset), dataset.label_space
    if counts is None or space is None:
        return {}
    rows, most = sum(counts), max(counts)
    limit = min(RARE_SHARE, PART_OF_EVEN / len(counts)) * rows
    rare = {
        name: count / rows
        for name, count in zip(space.names, counts, strict=True)
        if count < limit or count * MOST_TO_LEAST < most
    }
    return dict(sorted(rare.items(), key=lambda item: item[1]))


def choose_metric(asked: str | None, dataset: TextDataset) -> str:
    """Return the metric that chooses the best weights, and say why where it is not the usual one.

    Answering the most frequent class always has nearly the best accuracy where a class is rare, so that it chooses
    badly there; macro F1 counts every class alike.

    Args:
        asked: by the user; None takes the problem's default, or macro F1 where a class is rare.
        dataset: to learn from.

    Raises:
        UsageError: there is no such metric, or it does not fit.

    Warns:
        DataWarning: accuracy was asked for, and a class is rare.
    """
    problem_type = dataset.label_space.problem_type if dataset.label_space else "single_label_classification"
    name = metric_name(problem_type, asked)
    rare = rare_classes(dataset)
    if not rare or name not in ("accuracy", "f1_micro"):
        return name
    shown = ", ".join(f"{each!r} ({share:.1%} of the rows)" for each, share in list(rare.items())[:_SHOWN])
    rest = f" and {len(rare) - _SHOWN} more" if len(rare) > _SHOWN else ""
    if asked is None:
        logger.info("the metric is f1_macro, because these classes are rare: %s%s; --metric overrules", shown, rest)
        return "f1_macro"
    told = f"{name} hardly counts classes this rare: {shown}{rest}"
    warnings.warn(f"{told}; f1_macro does, and --class-weight balanced learns them sooner", DataWarning, stacklevel=3)
    return name


def class_weights(name: str | None, dataset: TextDataset) -> list[float] | None:
    """Return what a row of each class weighs in the loss, [C], 1 in the mean over the rows; None for all alike.

    Args:
        name: `balanced`: rows / (classes · rows of the class), as in scikit-learn. None for no weights.
        dataset: to learn from.

    Raises:
        UsageError: weights for something else than one label a text.
    """
    if name is None:
        return None
    counts = class_counts(dataset)
    if counts is None:
        kind = dataset.label_space.problem_type if dataset.label_space else "unlabelled"
        raise UsageError(f"class_weight is {name!r} and the data {kind}; it is for one label a text: leave it out")
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 1.0 for count in counts]
