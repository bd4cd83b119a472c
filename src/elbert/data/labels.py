"""Labels: what the classes of a model are called, and how a value from a data set becomes what a loss wants.

`Labels` is the one mapping between names and ids; `infer_labels` makes one from a training set's values. A label's name
is its own spelling: strings as they are (surrounding blanks dropped), whole numbers without a decimal part.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from elbert.data.table import quote_names, shorten
from elbert.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from elbert.results import ProblemType

SINGLE: ProblemType = "single_label_classification"
MULTI: ProblemType = "multi_label_classification"
REGRESSION: ProblemType = "regression"
PROBLEM_TYPES = (SINGLE, MULTI, REGRESSION)
SEPARATOR = ";"  # between the labels of one text in a CSV or TSV cell
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
WHOLE_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)

Encoded = int | float | list[float]


@dataclass(frozen=True)
class Labels:
    """The label space of a data set or model.

    Attributes:
        problem_type: one of transformers' three words.
        names: class names by id; empty for regression.
    """

    problem_type: ProblemType
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the names fit the problem."""
        if self.problem_type not in PROBLEM_TYPES:
            raise UsageError(
                f"unknown problem_type {self.problem_type!r}{did_you_mean(self.problem_type, PROBLEM_TYPES)}"
            )
        if len(set(self.names)) != len(self.names):
            raise UsageError(f"label names {quote_names(self.names)} are not all different; rename one")

    @property
    def num_labels(self) -> int:
        """Width of a model's output: the number of classes, 1 for regression."""
        return 1 if self.problem_type == REGRESSION else len(self.names)

    @property
    def id2label(self) -> dict[int, str]:
        """What goes into a model's config; the one output of regression is called `score`."""
        return dict(enumerate(self.names)) if self.problem_type != REGRESSION else {0: "score"}

    @property
    def label2id(self) -> dict[str, int]:
        """The reverse of `id2label`."""
        return {name: position for position, name in self.id2label.items()}

    @classmethod
    def from_id2label(cls, id2label: Mapping[Any, str], problem_type: ProblemType) -> Labels:
        """Read a model config's `id2label`, whose keys may be ints or strings.

        Raises:
            UsageError: the ids are not 0 to C - 1.
        """
        names = {int(position): str(name) for position, name in id2label.items()}
        if sorted(names) != list(range(len(names))):
            raise UsageError(f"id2label has ids {sorted(names)}; allowed: 0 to {len(names) - 1}, each once")
        ordered = tuple(names[position] for position in range(len(names)))
        return cls(problem_type, () if problem_type == REGRESSION else ordered)

    def decode(self, label: int) -> str:
        """Return the name of class `label`.

        Raises:
            UsageError: there is no such class.
        """
        names = self.id2label
        if label not in names:
            raise UsageError(f"no class {label!r}; allowed: 0 to {self.num_labels - 1}")
        return names[label]

    def encode(self, value: Any, where: object) -> Encoded:
        """Turn a value from a data set into what a loss wants.

        Args:
            value: a name, a number, or for multi-label a list of them or a string with `;` between them.
            where: the place it stands; its `str()` starts the error line.

        Returns:
            An id (single label), a list of C zeros and ones (multi-label), or the number itself (regression).

        Raises:
            DataError: the label is missing, of the wrong kind, or was never seen in training.
        """
        if self.problem_type == REGRESSION:
            return read_number(value, where)
        if self.problem_type == SINGLE:
            return self._id(value, where)
        ids = [self._id(item, where) for item in split_set(value, where)]
        present = set(ids)
        if len(present) != len(ids):
            raise DataError(
                f"{where}: label set {shorten(value)} names a label twice; list the labels present, not zeros and ones"
            )
        return [float(position in present) for position in range(len(self.names))]

    def read_as_ids(self, values: Sequence[Any]) -> list[int]:
        """Return which classes some values of a data set name by number although the classes have names of words.

        Args:
            values: that `encode` takes.
        """
        if self.problem_type == REGRESSION or not self._accepts_ids:
            return []
        items = [item for value in values for item in (split_set(value, "") if self.problem_type == MULTI else [value])]
        return sorted({self._id(item, "") for item in items if is_number(item)})

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {_spell(name): position for position, name in enumerate(self.names)}

    @cached_property
    def _accepts_ids(self) -> bool:
        return not any(is_number(name) for name in self.names)

    def _id(self, value: Any, where: object) -> int:
        name = label_name(value, where)
        if name in self._ids:
            return self._ids[name]
        if self._accepts_ids and WHOLE_NUMBER.fullmatch(name):
            if 0 <= int(name) < len(self.names):
                return int(name)
            raise DataError(f"{where}: label id {name} is out of range; allowed: 0 to {len(self.names) - 1}, or names")
        close = difflib.get_close_matches(name, self.names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(f"{where}: label {name!r} was never seen in training; {hint}known: {quote_names(self.names)}")


def infer_labels(
    values: Sequence[Any],
    column: str,
    places: Sequence[object],
    problem_type: ProblemType | None = None,
    declared: tuple[str, ...] = (),
) -> Labels:
    """Make the label space of a training set.

    Numbers that are not whole, or a column called `score`, mean regression; lists, or a column called `labels` with
    strings, mean multi-label; all else is single-label. Whole numbers sort by value, words alphabetically.

    Args:
        values: one per row, as read.
        column: name of the label column.
        places: where each value stands; its `str()` starts an error line.
        problem_type: set where the guess should not be taken.
        declared: class names the source itself declares; taken in its order over the ones that happen to occur.

    Raises:
        DataError: a label is missing, or the labels are of several kinds.
        UsageError: an unknown `problem_type`.
    """
    kind = problem_type or _guess(values, column, bool(declared))
    if kind == REGRESSION or declared:
        return Labels(kind, () if kind == REGRESSION else declared)
    first_rows: dict[str, int] = {}
    for row, value in enumerate(values):
        items = split_set(value, places[row]) if kind == MULTI else [value]
        for item in items:
            first_rows.setdefault(label_name(item, places[row]), row)
    _check_one_kind(first_rows, places)
    return Labels(kind, tuple(sorted(first_rows, key=_sort_key)))


def _guess(values: Sequence[Any], column: str, declared: bool) -> ProblemType:
    """Say which problem values of one shape pose."""
    name = column.strip().casefold()
    if isinstance(values[0], (list, tuple)):
        return MULTI
    if declared:
        return SINGLE
    if name == "labels" and isinstance(values[0], str):
        return MULTI
    if not all(is_number(value) for value in values):
        return SINGLE
    return REGRESSION if name == "score" or any(not float(value).is_integer() for value in values) else SINGLE


def check_shapes(values: Sequence[Any], places: Sequence[object]) -> None:
    """Refuse lists of labels beside single labels.

    Raises:
        DataError: at the first row unlike row 1.
    """
    present = [row for row, value in enumerate(values) if value is not None]
    listed = [isinstance(values[row], (list, tuple)) for row in present]
    if any(listed) and not all(listed):
        first, odd = present[0], present[listed.index(not listed[0])]
        raise DataError(
            f"{places[odd]}: label {shorten(values[odd])} beside {shorten(values[first])} in row {first + 1}; "
            "give every row a list of labels, or every row one label"
        )


def _check_one_kind(first_rows: Mapping[str, int], places: Sequence[object]) -> None:
    numbers = [name for name in first_rows if is_number(name)]
    words = [name for name in first_rows if not is_number(name)]
    if numbers and words:
        word, number = words[0], numbers[0]
        row = max(first_rows[word], first_rows[number])
        raise DataError(
            f"{places[row]}: labels are part words ({quote_names(words, 3)}), "
            f"part numbers ({quote_names(numbers, 3)}); write every label as a word, or every one as a number"
        )


def _sort_key(name: str) -> tuple[float, str]:
    return (float(name) if is_number(name) else 0.0, name)


def is_number(value: Any) -> bool:
    """Say whether a value is a finite number or spells one; True and False are words."""
    if isinstance(value, str) and not NUMBER.fullmatch(value.strip()):
        return False
    try:
        return isinstance(value, (str, int, float)) and not isinstance(value, bool) and math.isfinite(float(value))
    except OverflowError:
        return False


def label_name(value: Any, where: object) -> str:
    """Return the name of the class a single value stands for.

    Raises:
        DataError: the value is missing (None, NaN, empty), or is a list or another kind of thing.
    """
    check_present(value, where)
    if not isinstance(value, (str, bool, int, float)):
        raise DataError(
            f"{where}: label {shorten(value)} is of type {type(value).__name__}; allowed: one string or number"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where}: label {value} is not a finite number; correct it, or drop the row")
    return _spell(str(value))


def _spell(name: str) -> str:
    """Return a name without blanks around it, and a whole number without its decimal part (`1.0` is `1`)."""
    name = name.strip()
    if is_number(name) and not WHOLE_NUMBER.fullmatch(name) and float(name).is_integer():
        return str(int(float(name)))
    return name


def split_set(value: Any, where: object) -> list[Any]:
    """Return the labels of one text in a multi-label set; an empty string or list is the empty set.

    Raises:
        DataError: the set is missing (None or NaN).
    """
    if isinstance(value, str):
        return [item for item in value.split(SEPARATOR) if item.strip()]
    if isinstance(value, (list, tuple)):
        return list(value)
    check_present(value, where)
    return [value]


def read_number(value: Any, where: object) -> float:
    """Return a regression target.

    Raises:
        DataError: the value is missing or is no finite number.
    """
    check_present(value, where)
    if not is_number(value):
        raise DataError(f"{where}: score {shorten(value)} is not a finite number; give every row one")
    return float(value)


def is_missing(value: Any) -> bool:
    """Say whether a value is None, NaN, or a string that is blank or spells NaN."""
    if isinstance(value, str):
        return value.strip().casefold() in ("", "nan")
    return value is None or (isinstance(value, float) and value != value)


def check_present(value: Any, where: object) -> None:
    """Refuse a label that is not there.

    Raises:
        DataError: `is_missing`.
    """
    if is_missing(value):
        raise DataError(f"{where}: the label is missing ({shorten(value)}); give one, or drop the row")
