"""Splits a data set in two, class by class where it has classes, the same way for the same seed everywhere."""

from __future__ import annotations

import random

from elbert.data.dataset import TextDataset
from elbert.data.labels import SINGLE
from elbert.errors import DataError, UsageError


def split(dataset: TextDataset, fraction: float, seed: int) -> tuple[TextDataset, TextDataset]:
    """Take `fraction` of the rows out of a data set.

    Single-label data keeps its class proportions (largest remainder) and a class of one item goes to the larger part;
    multi-label, regression and unlabelled data are split at random. Both parts keep the order of the rows.

    Args:
        dataset: at least two rows.
        fraction: size of the part taken out, in (0, 1); at least one row lands on either side.
        seed: of the draw.

    Returns:
        `(rest, part)`.

    Raises:
        UsageError: a fraction out of range.
        DataError: fewer than two rows.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"fraction {fraction} is out of range; allowed: more than 0 and less than 1")
    if len(dataset) < 2:
        raise DataError(f"{dataset.name}: {len(dataset)} rows cannot be split in two; give at least two")
    size = min(max(round(len(dataset) * fraction), 1), len(dataset) - 1)
    generator = random.Random(seed)
    groups = _groups(dataset)
    for rows in groups:
        generator.shuffle(rows)
    taken: set[int] = set()
    for rows, share in zip(groups, _shares([len(rows) for rows in groups], size, fraction), strict=True):
        taken.update(rows[:share])
    rest = [row for row in range(len(dataset)) if row not in taken]
    return dataset.select(rest), dataset.select(sorted(taken))


def _groups(dataset: TextDataset) -> list[list[int]]:
    """Return the rows of every class, or all rows as one group where there are no classes."""
    if dataset.labels is None or dataset.label_space is None or dataset.label_space.problem_type != SINGLE:
        return [list(range(len(dataset)))]
    groups: dict[object, list[int]] = {}
    for row, label in enumerate(dataset.labels):
        groups.setdefault(label, []).append(row)
    return [groups[label] for label in sorted(groups, key=str)]


def _shares(counts: list[int], size: int, fraction: float) -> list[int]:
    """Say how many rows of every class to take: `size` in all, as near to `fraction` of each as whole rows allow.

    Classes of one item are all taken where the part is the larger side and all left where it is not; only data made of
    nothing but such classes gives way, because both sides need a row.
    """
    lonely = [count == 1 for count in counts]
    shares = [
        int(fraction > 0.5) if alone else int(count * fraction) for count, alone in zip(counts, lonely, strict=True)
    ]
    order = sorted(
        range(len(counts)), key=lambda group: (lonely[group], shares[group] - counts[group] * fraction, group)
    )
    while (missing := size - sum(shares)) != 0:
        step = 1 if missing > 0 else -1
        group = next(
            group for group in (order if step > 0 else order[::-1]) if 0 <= shares[group] + step <= counts[group]
        )
        shares[group] += step
        order.remove(group)
        order.append(group) if step > 0 else order.insert(0, group)
    return shares
