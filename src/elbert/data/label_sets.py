"""Label sets in one cell: lists that became text on their way through a CSV file, and labels joined by some mark."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from elbert.data.table import shorten
from elbert.data.values import LABEL_PREFIX, SEPARATOR, is_missing, spell, spells_number
from elbert.errors import DataError

REMEDY = (
    f"write {SEPARATOR!r} between labels, or lists in JSON lines; "
    "or say --problem-type single_label_classification, and every cell is one class"
)
# As Python, JSON and NumPy write them: 'joy', "joy", 3, 0.5, true, np.str_('joy').
_PLAIN_ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[Tt]rue|[Ff]alse"""
_ITEM = re.compile(rf"(?:np\.\w+\()?({_PLAIN_ITEM})\)?", re.DOTALL)
_LIST = re.compile(
    rf"[\[({{]\s*(?:{_ITEM.pattern}(?:(?:\s*,\s*|\s+){_ITEM.pattern})*\s*,?\s*)?[\])}}]|set\(\)", re.DOTALL
)
_NUMBER_WITH_COMMA = re.compile(r"[+-]?\d+,\d+")  # the decimals of half of Europe
_ZEROS_AND_ONES = re.compile(r"[01](?:\s*([ ,|/\t])\s*[01])+")  # a class each, in the order of the classes
# Marks people put between labels, and whether the words around one have to occur alone, as names hold such marks too.
_MARKS = {SEPARATOR: False, "|": False, ",": False, "\t": True, "/": True, "+": True, "&": True, " ": True}


def read_lists(values: Sequence[Any], places: Sequence[object]) -> Sequence[Any]:
    """Turn cells that hold lists as text (`['joy', 'love']`) into lists, where every cell of the column does.

    Args:
        values: as read, one a row.
        places: where each stands.

    Raises:
        DataError: one cell holds a list in brackets and another doesn't, or none that can be read.
    """
    present = [row for row, value in enumerate(values) if not is_missing(value)]
    if not present or not all(isinstance(values[row], str) for row in present):
        return values
    lists = {row: read_list(values[row]) for row in present}
    if all(items is not None for items in lists.values()):
        return [lists.get(row) for row in range(len(values))]
    bracketed = [row for row in present if values[row].strip().startswith("[") and values[row].strip().endswith("]")]
    if bracketed:
        odd = next((row for row in bracketed if lists[row] is None), None)
        row = odd if odd is not None else next(row for row in present if lists[row] is None)
        problem = "looks like a list" if odd is not None else f"beside the list {shorten(values[bracketed[0]])}"
        raise DataError(f"{places[row]}: label {shorten(values[row])} {problem}; {REMEDY}")
    return values


def read_list(cell: str) -> list[Any] | None:
    """Return the items of a list that was written as text, or None where the cell holds no such thing."""
    text = cell.strip()
    if not _LIST.fullmatch(text):
        return None
    if text[0] == "(" and text[-1] == ")" and not any(mark in text for mark in "'\",") and text != "()":
        return None  # (1) is a number in brackets
    items = [match[1] for match in _ITEM.finditer(text, 1)] if text != "set()" else []
    try:
        return [_read_item(item) for item in items]
    except (ValueError, SyntaxError):  # an escape that is none
        return None


def _read_item(item: str) -> str:
    """Return the label an item stands for: a string's content, and everything else as it is written."""
    if item[0] not in "'\"":
        return item.capitalize() if item in ("true", "false") else item
    try:
        return str(json.loads(item))
    except ValueError:
        return str(ast.literal_eval(item))


def find_mark(values: Sequence[Any], *, expected: bool) -> str | None:
    """Return the mark that stands between labels in the cells of a column, or None where each cell is one label.

    A name may hold a comma or a blank too. A mark is believed where a word beside it also occurs without it: alone, or
    (`;`, `|` and commas) in another combination; for a comma, all of its words.

    Args:
        values: strings and other values, one a row.
        expected: whether the column's own name promises several labels a row; less is believed sufficient then.
    """
    cells = {spell(value) for value in values if not is_missing(value)}
    vectors = [_ZEROS_AND_ONES.fullmatch(cell) for cell in cells]
    if vectors and all(vectors) and len({len(cell) for cell in cells}) == 1:
        return next(vector[1] for vector in vectors if vector is not None)
    if all(LABEL_PREFIX in cell for cell in cells) and any(len(cell.split()) > 1 for cell in cells):
        return " "
    if all(_NUMBER_WITH_COMMA.fullmatch(cell) or cell.replace(".", "", 1).isdigit() for cell in cells):
        return None
    return next(
        (mark for mark, strict in _MARKS.items() if _joins(mark, cells, strict=strict, expected=expected)), None
    )


def _joins(mark: str, cells: set[str], *, strict: bool, expected: bool) -> bool:
    rare = mark in (SEPARATOR, "|")  # in names; so one at the end of a cell counts too
    sets = {cell: parts for cell in cells if mark in cell and len(parts := _parts(cell, mark)) >= (1 if rare else 2)}
    if not sets or (expected and rare):
        return bool(sets)
    alone = cells - sets.keys()
    if strict and not expected:
        return any(parts <= alone for parts in sets.values())
    words: set[str] = set().union(*sets.values())
    if words & alone:
        return True
    counts = Counter(word for parts in sets.values() for word in parts)
    shared = {word for word in words if counts[word] > 1}
    return not strict and (shared == words if mark == "," else bool(shared))


def _parts(cell: str, mark: str) -> set[str]:
    return {part.strip() for part in cell.split(mark) if part.strip()}


def refuse_vectors(values: Sequence[Any], places: Sequence[object]) -> None:
    """Refuse rows of zeros and ones: read as label sets they would name the labels `0` and `1`.

    Raises:
        DataError: every row is a list of as many zeros and ones, and some could be no set of labels in order.
    """
    lists = [value for value in values if isinstance(value, (list, tuple))]
    if not lists or len(lists[0]) < 2 or any(len(each) != len(lists[0]) for each in lists):
        return
    if all(_is_zero_or_one(item) for each in lists for item in each):
        odd = next(
            (row for row, each in enumerate(values) if each is not None and [*map(spell, each)] != ["0", "1"]), None
        )
        if odd is not None:
            raise DataError(
                f"{places[odd]}: label set {shorten(values[odd])} names a label twice, or none by its name: "
                "list the labels present, not zeros and ones"
            )


def _is_zero_or_one(item: Any) -> bool:
    return spell(item) in ("True", "False") or (spells_number(item) and float(item) in (0, 1))
