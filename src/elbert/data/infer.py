"""Guesses what problem a label column poses, from what is written in it, and names the classes it found.

A guess that could be wrong carries its reason, so that whoever reads the data can say it in a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from elbert.data.label_sets import REMEDY, find_mark
from elbert.data.labels import Labels
from elbert.data.table import quote_names, shorten
from elbert.data.values import SEPARATOR, is_missing, is_number, label_name, spell, spells_number, split_set, whole
from elbert.errors import DataError
from elbert.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, task_of

if TYPE_CHECKING:
    from elbert.results import ProblemType

MANY_NUMBERS = 20  # more different whole numbers than this are rather amounts than classes
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True)
class Guess:
    """What problem a label column poses.

    Attributes:
        problem_type: one of transformers' three words.
        reason: why it is not, or may not be, what its owner means; empty where there is hardly a doubt.
    """

    problem_type: ProblemType
    reason: str = ""


def guess_problem(values: Sequence[Any], column: str, places: Sequence[object], *, declared: bool) -> Guess:
    """Say which problem the values of a column pose.

    Lists, and text with `;` between labels, are multi-label; numbers with decimals, or all numbers in a column `score`,
    are regression; all else is single-label.

    Args:
        values: one a row, as read; missing ones are passed over.
        column: its name.
        places: where each value stands; its `str()` starts an error line.
        declared: whether the source itself declares names for them.

    Raises:
        DataError: some other mark than `;` stands between labels, lists hold amounts, or empty cells may mean no label
            or a missing one.
    """
    name = column.strip().casefold()
    present = [value for value in values if not is_missing(value)]
    if any(isinstance(value, (list, tuple)) for value in present):
        _check_sets(values, places)
        return Guess(MULTI_LABEL.problem_type)
    if declared or not present:
        return Guess(SINGLE_LABEL.problem_type)
    mark = find_mark(present, expected=name == "labels")
    if mark == SEPARATOR:
        return Guess(MULTI_LABEL.problem_type, "" if name == "labels" else f"{SEPARATOR!r} stands between labels")
    if mark is not None:
        row = next(row for row, value in enumerate(values) if mark in spell(value))
        raise DataError(f"{places[row]}: label {shorten(values[row])} looks like several labels in one cell; {REMEDY}")
    if name == "labels" and len(present) < len(values):
        row = next(row for row, value in enumerate(values) if is_missing(value))
        raise DataError(
            f"{places[row]}: the label is missing ({shorten(values[row])}); give one, or drop the row; "
            "where an empty cell means no label, give --problem-type multi_label_classification"
        )
    return _guess_one_label(present, name)


def marked_problem(values: Sequence[Any]) -> Guess:
    """Say which problem the labels of a file pose that marks each: several in one line are several classes of a text.

    Args:
        values: one a row, several labels with `;` between them; missing ones are passed over.
    """
    present = [value for value in values if not is_missing(value)]
    several = sum(SEPARATOR in value for value in present)
    if not several:
        return Guess(SINGLE_LABEL.problem_type)
    return Guess(MULTI_LABEL.problem_type, f"{several:,} of {len(present):,} labelled lines have several labels")


def _check_sets(values: Sequence[Any], places: Sequence[object]) -> None:
    """Refuse lists of amounts, such as the probabilities of classes: each would become a label's name."""
    sets = {row: value for row, value in enumerate(values) if isinstance(value, (list, tuple)) and value}
    if not all(spells_number(item) for items in sets.values() for item in items):
        return
    row = next((row for row, items in sets.items() if not all(float(item).is_integer() for item in items)), None)
    if row is not None:
        raise DataError(
            f"{places[row]}: label {shorten(values[row])} is a list of numbers with decimals, not of labels; give the "
            "labels that apply, or one number a row; or say --problem-type multi_label_classification, and each is a "
            "label's name"
        )


def _guess_one_label(values: Sequence[Any], column: str) -> Guess:
    """Say whether values that each are one label mean classes or amounts."""
    if not all(spells_number(value) for value in values):
        comma = next((value for value in values if _DECIMAL_COMMA.fullmatch(spell(value))), None)
        return Guess(SINGLE_LABEL.problem_type, "" if comma is None else f"{shorten(comma)} has no decimal point")
    decimal = next((value for value in values if not float(value).is_integer()), None)
    if decimal is not None:
        return Guess(REGRESSION.problem_type, f"{spell(decimal)} has decimals")
    if not all(is_number(value) for value in values):
        return Guess(SINGLE_LABEL.problem_type)
    if column == "score":
        return Guess(REGRESSION.problem_type, "the column is called so")
    count = len({spell(value) for value in values})
    return Guess(SINGLE_LABEL.problem_type, "they are whole numbers" if count > MANY_NUMBERS else "")


def name_classes(values: Sequence[Any], kind: ProblemType, places: Sequence[object], *, guessed: bool) -> Labels:
    """Make the label space of a training set: its classes as written, numbers by value, then words alphabetically.

    Args:
        values: one a row; sets of labels for multi-label.
        kind: which problem they pose.
        places: where each value stands; its `str()` starts an error line.
        guessed: whether nobody has said `kind`; a mixture of words and numbers is then refused, and `1.0` is `1` where
            both occur.

    Raises:
        DataError: a label is missing, or some are words and some numbers.
    """
    first_rows: dict[str, int] = {}
    for row, value in enumerate(values):
        for item in task_of(kind).items(value, partial(split_set, where=places[row])):
            first_rows.setdefault(label_name(item, places[row]), row)
    if guessed:
        _check_one_kind(first_rows, places)
        first_rows = {
            name: row for name, row in first_rows.items() if whole(name) == name or whole(name) not in first_rows
        }
    return Labels(kind, tuple(sorted(first_rows, key=_sort_key)))


def _check_one_kind(first_rows: dict[str, int], places: Sequence[object]) -> None:
    """Refuse words beside numbers; codes, which hold digits too, may stand beside either."""
    numbers = [name for name in first_rows if is_number(name)]
    words = [name for name in first_rows if not any(character.isdigit() for character in name)]
    if numbers and words:
        row = max(first_rows[words[0]], first_rows[numbers[0]])
        raise DataError(
            f"{places[row]}: labels are part words ({quote_names(words, 3)}), "
            f"part numbers ({quote_names(numbers, 3)}); write every label as a word, or every one as a number; "
            "or say --problem-type single_label_classification, and each is a class"
        )


def _sort_key(name: str) -> tuple[bool, float, str]:
    return (not is_number(name), float(name) if is_number(name) else 0.0, name)


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


def describe(space: Labels) -> str:
    """Return a label space in words for a line about it."""
    return f"{space.task.kind}, classes {quote_names(space.names, 6)}" if space.names else space.task.kind
