"""`TextDataset`: texts and their labels in memory, to train on, calibrate with or evaluate. Reads nothing itself."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elbert.data.labels import Labels
from elbert.data.table import shorten
from elbert.errors import DataError, DataWarning, UsageError

Text = str | tuple[str, str]


@dataclass(frozen=True)
class TextDataset:
    """N texts.

    Attributes:
        texts: N strings, or N `(text, text_pair)` tuples.
        labels: N ids in [0, C) (single label), N lists of C zeros and ones (multi-label), N numbers (regression), or
            None where the data has no labels.
        label_space: how to read `labels`; None exactly where they are None.
        name: where it came from, for people.
    """

    texts: Sequence[Text]
    labels: list[int] | list[float] | list[list[float]] | None = None
    label_space: Labels | None = None
    name: str = "data"

    def __post_init__(self) -> None:
        """Check that texts and labels belong together."""
        if (self.labels is None) != (self.label_space is None):
            raise UsageError(f"{self.name}: labels and label_space go together; give both or neither")
        if self.labels is not None and len(self.labels) != len(self.texts):
            raise UsageError(
                f"{self.name}: {len(self.texts)} texts but {len(self.labels)} labels; give one label a text"
            )

    @classmethod
    def of(cls, texts: Iterable[Text] | TextDataset, labels: Sequence[Any] | None, space: Labels) -> TextDataset:
        """Return texts and labels, as a user gives them, as a data set of this label space.

        Args:
            texts: strings or pairs; or a data set, whose classes are told by their names.
            labels: names or ids; None where there are none, or the data set has them.
            space: a model's, to encode with.

        Raises:
            UsageError: labels beside a data set, or not one for each text; one string or a table for texts.
            DataError: a label that is missing or unknown.
        """
        if isinstance(texts, TextDataset):
            if labels is not None:
                raise UsageError("a data set brings its own labels; give texts and labels, or a data set alone")
            return in_space_of(texts, space)
        listed = list(each_text(texts))
        if labels is None:
            return cls(listed, name="texts")
        encoded: Any = [space.encode(value, f"label {row}") for row, value in enumerate(labels, start=1)]
        return cls(listed, encoded, space, "texts")

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Sequence[int]) -> TextDataset:
        """Return the rows at `indices` (0-based, in that order), with the same label space."""
        labels: Any = None if self.labels is None else [self.labels[index] for index in indices]
        return TextDataset([self.texts[index] for index in indices], labels, self.label_space, self.name)


def each_text(texts: Iterable[Text]) -> Iterator[Text]:
    """Walk over texts; what holds characters or the names of columns instead is refused at once.

    Raises:
        UsageError: it is one string, a table, or nothing that can be walked over.
    """
    if isinstance(texts, (str, bytes, bytearray)):
        raise UsageError(
            f"many texts are wanted, and {shorten(texts)} is one; put a single text into a list; a file is read with "
            "elbert.data.load_data"
        )
    if not isinstance(texts, list) and (
        isinstance(texts, Mapping) or hasattr(texts, "columns") or hasattr(texts, "column_names")
    ):
        kind = type(texts).__name__  # walking over it would give the names of its columns
        raise UsageError(f"texts are of type {kind}, which holds columns; give the texts alone, such as data['text']")
    try:
        return iter(texts)
    except TypeError:  # one thing that is no text, where one text may be given
        check_text(texts, 1)
        raise


def are_pairs(texts: Iterable[Text]) -> bool | None:
    """Return whether texts are pairs; None where some are and some are not, or there are none."""
    kinds = {isinstance(text, tuple) for text in texts}
    return kinds.pop() if len(kinds) == 1 else None


def of_its_kind(texts: Iterable[Text], pairs: bool | None, model: str) -> Iterator[Text]:
    """Walk over texts, and warn at the first that is a pair where a model learnt from single texts, or the reverse.

    Args:
        texts: strings or pairs.
        pairs: whether the model learnt from pairs; None where nobody noted it.
        model: its name.

    Raises:
        UsageError: as `each_text`.

    Warns:
        DataWarning: there is such a text.
    """
    source = each_text(texts)
    for text in source if pairs is not None else ():
        other = isinstance(text, str if pairs else tuple)
        if other:
            learnt, given = ("pairs of texts", "single texts") if pairs else ("single texts", "pairs of texts")
            mend = "two texts each (--pair, --text-pair-column)" if pairs else "one text each (--text-column)"
            told = f"{model} learnt from {learnt} and is given {given}, so its answers may mean nothing; give {mend}"
            warnings.warn(told, DataWarning, stacklevel=2)
        yield text
        if other:
            break
    yield from source


def spread_over(texts: Sequence[Text], most: int) -> list[Text]:
    """Return at most so many of the texts, spread evenly over those there are, in their order."""
    places = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), most)).astype(int))
    return [texts[place] for place in places]


def check_text(text: object, number: int) -> None:
    """Raise UsageError where this is no text: no string, and no tuple of two; `number` is its place, from 1."""
    if isinstance(text, str) or (
        isinstance(text, tuple) and len(text) == 2 and all(isinstance(half, str) for half in text)
    ):
        return
    raise UsageError(f"text {number} is {reprlib.repr(text)}; a text is a string or a tuple of two strings")


def labelled(texts: Iterable[Text], labels: Iterable[Any]) -> list[dict[str, Any]]:
    """Return texts and labels as rows that a reader takes.

    Raises:
        UsageError: there are more of one than of the other, or no texts, see `each_text` and `check_text`.
    """
    pairs, values = list(each_text(texts)), list(labels)
    for number, text in enumerate(pairs, start=1):
        check_text(text, number)
    if len(pairs) != len(values):
        raise UsageError(f"{len(pairs)} texts but {len(values)} labels; give one label a text")
    halves = [(text, None) if isinstance(text, str) else text for text in pairs]
    paired = any(pair is not None for _, pair in halves)
    cells = [{"text": text, **({"text_pair": pair} if paired else {})} for text, pair in halves]
    return [{**row, "label": value} for row, value in zip(cells, values, strict=True)]


def in_order_of(dataset: TextDataset, space: Labels) -> TextDataset:
    """Return a data set with its labels encoded as `space` orders the same names; itself where they are other names."""
    own = dataset.label_space
    named_alike = own is not None and own.problem_type == space.problem_type and set(own.names) == set(space.names)
    return in_space_of(dataset, space) if named_alike else dataset


def in_space_of(dataset: TextDataset, space: Labels) -> TextDataset:
    """Return a data set with its labels encoded as a model's, by the names of the classes.

    What is read without the model's labels numbers its classes as they come: in another order, or without one that the
    model knows and this data has not.

    Args:
        dataset: with a label space of its own, or none.
        space: the model's.

    Raises:
        UsageError: it poses another problem.
        DataError: a label is none of the model's.
    """
    own = dataset.label_space
    if own is None or dataset.labels is None or own == space:
        return dataset
    if own.problem_type != space.problem_type:
        raise UsageError(
            f"{dataset.name} is read as {own.task.kind}, which the model is not for ({space.task.kind}); read it with "
            "the model's labels: load_data(…, labels=classifier.labels)"
        )
    if not own.names:
        return dataset
    names = (
        [own.names[at] for at, said in enumerate(label) if said] if isinstance(label, list) else own.names[int(label)]
        for label in dataset.labels
    )
    labels: Any = [space.encode(name, dataset.name) for name in names]
    return TextDataset(dataset.texts, labels, space, dataset.name)


def check_trainable(dataset: TextDataset) -> None:
    """Refuse a data set nothing can be learnt from.

    Raises:
        DataError: no rows, no labels, or the same label on every row.
    """
    if not len(dataset):
        raise DataError(f"{dataset.name}: no rows; training needs some")
    if dataset.labels is None or dataset.label_space is None:
        raise DataError(f"{dataset.name}: no labels; training needs a label column")
    reason = dataset.label_space.task.nothing_to_learn(dataset.labels, dataset.label_space.names)
    if reason is not None:
        raise DataError(f"{dataset.name}: {reason}")
