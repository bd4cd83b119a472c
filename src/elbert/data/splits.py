"""Splits a data set in two, class by class where it has classes, the same way for the same seed everywhere."""

from __future__ import annotations

import random
from collections.abc import Iterable

from elbert.data.dataset import Text, TextDataset
from elbert.errors import DataError, UsageError


def split(dataset: TextDataset, fraction: float, seed: int) -> tuple[TextDataset, TextDataset]:
    """Take `fraction` of the rows out of a data set.

    Single-label data keeps its class proportions (largest remainder) and a class of one item goes to the larger part;
    multi-label, regression and unlabelled data are split at random. Rows of one text, blanks and case aside, stay
    together, so that nothing is scored on what it was taught; a text that stands there often may make the part smaller.
    Both parts keep the order of the rows.

    Args:
        dataset: at least two rows.
        fraction: size of the part taken out, in (0, 1); at least one text lands on either side.
        seed: of the draw.

    Returns:
        `(rest, part)`.

    Raises:
        UsageError: a fraction out of range.
        DataError: fewer than two different texts.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"fraction {fraction} is out of range; allowed: more than 0 and less than 1")
    if len(dataset) < 2:
        raise DataError(f"{dataset.name}: {len(dataset)} rows cannot be split in two; give at least two")
    repeats = _repeats(dataset)
    if len(repeats) < 2:
        raise DataError(f"{dataset.name}: all {len(dataset)} rows have one text and cannot be split; give others")
    size = min(max(round(len(dataset) * fraction), 1), len(dataset) - 1)
    generator = random.Random(seed)
    groups = _groups(dataset, repeats)
    for texts in groups:
        generator.shuffle(texts)
    counts = [sum(len(repeats[first]) for first in texts) for texts in groups]
    taken: set[int] = set()
    for texts, share in zip(groups, _shares(counts, size, fraction), strict=True):
        for first in texts:
            if len(repeats[first]) <= share:
                taken.update(repeats[first])
                share -= len(repeats[first])
    if not taken or len(taken) == len(dataset):  # every text stands there too often for its share
        taken = set(sorted(repeats.values(), key=len)[0])
    rest = [row for row in range(len(dataset)) if row not in taken]
    return dataset.select(rest), dataset.select(sorted(taken))


def same_text(text: Text) -> Text:
    """Return a text without what makes no other text of it: case, and how many blanks stand where."""
    if isinstance(text, str):
        return " ".join(text.split()).casefold()
    return (" ".join(text[0].split()).casefold(), " ".join(text[1].split()).casefold())


def _repeats(dataset: TextDataset) -> dict[int, list[int]]:
    """Return the rows of every text, by the first of them."""
    first: dict[Text, int] = {}
    repeats: dict[int, list[int]] = {}
    for row, text in enumerate(dataset.texts):
        repeats.setdefault(first.setdefault(same_text(text), row), []).append(row)
    return repeats


def _groups(dataset: TextDataset, repeats: Iterable[int]) -> list[list[int]]:
    """Return the texts (their first rows) of every class, or all as one group where there are no classes."""
    ids = None if dataset.label_space is None else dataset.label_space.task.of_one_class(dataset.labels)
    if ids is None:
        return [list(repeats)]
    groups: dict[object, list[int]] = {}
    for row in repeats:
        groups.setdefault(ids[row], []).append(row)
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
