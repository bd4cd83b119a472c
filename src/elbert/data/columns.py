"""Finds which columns hold the text, its pair and the label: by the names people use, or as named by the caller."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from elbert.data.table import Row, Table, Where, quote_names, shorten
from elbert.data.values import is_null, is_number
from elbert.errors import DataError, DataWarning, UsageError, did_you_mean

# Best first; compared without regard to case.
PAIR_COLUMNS = (
    ("sentence1", "sentence2"),
    ("text", "text_pair"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("question", "passage"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("#1 string", "#2 string"),
)
TEXT_COLUMNS = (
    "text",
    "sentence",
    "review",
    "content",
    "comment",
    "tweet",
    "utterance",
    "document",
    "question",
    "query",
)
LABEL_COLUMNS = (
    *("label", "labels", "score", "gold_label", "is_duplicate", "quality", "target", "class", "category"),
    *("sentiment", "topic", "intent", "emotion"),
)
_LONGEST_NAME = 3  # words of a column's name; more are rather a text
# Names that only ever mean one half of a pair: alone, their other half has gone missing.
HALVES = {
    half: other
    for pair in PAIR_COLUMNS
    for half, other in (pair, pair[::-1])
    if half not in TEXT_COLUMNS  # `text` and `question` also stand alone
}


@dataclass(frozen=True)
class Columns:
    """The columns of one table that matter, by their exact names; None where there is none."""

    text: str
    text_pair: str | None
    label: str | None


def find_columns(
    table: Table,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    *,
    require_labels: bool = False,
) -> Columns:
    """Find the columns of the text and of the label.

    Args:
        table: where to look.
        text_column: the text's column; where it is given, a pair must be named too.
        text_pair_column: the second text's column.
        label_column: the label's column.
        require_labels: whether to insist on a label column.

    Raises:
        UsageError: a named column is missing or named twice, none is found by name, half a pair is missing, or several
            columns could be the label and none of them is called `label` or `labels`.

    Warns:
        DataWarning: other columns could be the text or the label too.
    """
    texts = find_texts(table, text_column, text_pair_column)
    if label_column is not None:
        _check_apart(table, label_column, texts.text, texts.text_pair)
        return replace(texts, label=_named(table, label_column, "--label-column"))
    found = [column for column in _known(table, LABEL_COLUMNS) if column not in (texts.text, texts.text_pair)]
    if not found and require_labels:
        raise UsageError(
            f"{table.name}: no label column among {quote_names(table.columns)}; name it with --label-column, "
            f"or call it {_one_of(LABEL_COLUMNS)}{_header_hint(table.columns)}"
        )
    if len(found) > 1 and (_fold(found[0]) not in LABEL_COLUMNS[:2] or _fold(found[0]) == _fold(found[1])):
        raise UsageError(
            f"{table.name}: several columns could be the label: {quote_names(found)}; say which with --label-column"
        )
    _tell_others(table, "the label", found, "--label-column")
    return replace(texts, label=found[0] if found else None)


def find_texts(table: Table, text_column: str | None = None, text_pair_column: str | None = None) -> Columns:
    """Find the columns of the text and its pair, and leave labels alone.

    Args:
        table: where to look.
        text_column: the text's column; where it is given, a pair must be named too.
        text_pair_column: the second text's column.

    Raises:
        UsageError: a named column is missing, none is found by name, or half a pair is missing.

    Warns:
        DataWarning: other columns could be the text too.
    """
    pair = _named(table, text_pair_column, "--text-pair-column") if text_pair_column is not None else None
    if text_column is not None:
        _check_apart(table, text_column, pair)
        return Columns(_named(table, text_column, "--text-column"), pair, None)
    names = {_fold(column): column for column in reversed(table.columns)}
    found = [column for column in _known(table, TEXT_COLUMNS) if column != pair]
    if pair is None:
        for first, second in PAIR_COLUMNS:
            if first in names and second in names:
                halves = (names[first], names[second])
                others = [column for column in found if column not in halves]
                _tell_others(table, "the first text of a pair", [halves[0], *others], "--text-column")
                return Columns(*halves, None)
        _check_halves(table, names)
    if not found:
        raise UsageError(
            f"{table.name}: no text column among {quote_names(table.columns)}; name it with --text-column, "
            f"or call it {_one_of(TEXT_COLUMNS)}{_header_hint(table.columns)}"
        )
    _tell_others(table, "the text", found, "--text-column")
    return Columns(found[0], pair, None)


def _fold(column: str) -> str:
    return column.strip().casefold()


def _known(table: Table, names: Sequence[str]) -> list[str]:
    """Return the columns that have one of these names, in the order of the names."""
    return sorted(
        (column for column in table.columns if _fold(column) in names), key=lambda each: names.index(_fold(each))
    )


def _tell_others(table: Table, what: str, found: Sequence[str], option: str) -> None:
    """Warn where the first of several columns is taken."""
    if len(found) > 1:
        told = (
            f"{table.name}: column {found[0]!r} is taken for {what}, not {quote_names(found[1:])}; {option} overrules"
        )
        warnings.warn(told, DataWarning, stacklevel=4)


def _check_halves(table: Table, names: dict[str, str]) -> None:
    for half, other in HALVES.items():
        if half in names:
            raise UsageError(
                f"{table.name}: column {names[half]!r} is half of a pair, but there is no {other!r} among "
                f"{quote_names(table.columns)}; add it, or name the text with --text-column {names[half]}"
            )


def _named(table: Table, column: str, option: str) -> str:
    if column not in table.columns:
        allowed = did_you_mean(column, table.columns)
        raise UsageError(f"{table.name}: no column {column!r}{allowed}; name another with {option}")
    return column


def _check_apart(table: Table, column: str, *others: str | None) -> None:
    if column in others:
        raise UsageError(f"{table.name}: column {column!r} was named for two things; name one for each")


def _one_of(names: Sequence[str]) -> str:
    return f"one of {quote_names(names, len(names))}"


def _header_hint(columns: Sequence[str]) -> str:
    """Return how to mend a table whose header was taken for one name, or that has none; or nothing."""
    if any(is_number(column) or len(column.split()) > _LONGEST_NAME for column in columns):
        return "; its first line looks like a row: give it a header line that names the columns"
    if len(columns) != 1:
        return ""
    if "," in columns[0]:
        return "; it looks comma-separated: read it with --input-format csv"
    if "\t" in columns[0]:
        return "; it looks tab-separated: read it with --input-format tsv"
    mark = next((mark for mark in ";|" if mark in columns[0]), None)
    return f"; a .csv file separates its columns with commas, unless its first line is sep={mark}" if mark else ""


def names_columns(line: str) -> str | None:
    """Return what separates the cells of a line that is the header of a table with a text column, else None."""
    for mark in "\t,;|":
        cells = {_fold(cell.strip('"')) for cell in line.split(mark)}
        pair = any(first in cells and second in cells for first, second in PAIR_COLUMNS)
        if pair or (
            len(cells) > 1 and cells & {*TEXT_COLUMNS, *HALVES} and cells & {*LABEL_COLUMNS, "id", "index", "idx"}
        ):
            return mark
    return None


def read_text(table: Table, row: Row, columns: Columns) -> str | tuple[str, str]:
    """Return a row's text, or its pair of texts. A text of no characters is a text.

    Raises:
        DataError: the row is broken; a text is missing, is no string, or holds characters that no tokenizer takes.
    """
    if row.problem is not None:
        raise DataError(f"{Where(table.name, row.number, row.line)}: {row.problem}")
    text = _read_cell(table, row, columns.text)
    if columns.text_pair is not None:
        return text, _read_cell(table, row, columns.text_pair)
    if len(row.cells) > len(table.columns):
        _check_late_half(table, row)
    return text


def _read_cell(table: Table, row: Row, column: str) -> str:
    value = row.cells.get(column)
    if isinstance(value, (bytes, bytearray)):
        value = _decode(value, Where(table.name, row.number, row.line), column)
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        problem = _bad_character(value)
        if problem is None:
            return value
    elif is_null(value):
        problem = "the text is missing; give a text (an empty one is allowed), or drop the row"
    else:
        problem = f"{shorten(value)} is of type {type(value).__name__}, not a text; give a string"
    raise DataError(f"{Where(table.name, row.number, row.line)}, column {column!r}: {problem}")


def _decode(value: bytes | bytearray, where: Where, column: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}, column {column!r}: the text is not UTF-8 (byte offset {error.start} of it); write it as UTF-8"
        ) from None


def _bad_character(value: str) -> str | None:
    if "\0" in value:
        return f"NUL character at position {value.index(chr(0))}; remove it"
    return half_surrogate(value)


def half_surrogate(text: str) -> str | None:
    """Return what is wrong with a text that holds half a surrogate pair, which no tokenizer takes; else None."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"half a surrogate pair at position {error.start}, which is no character; write the text as UTF-8"
    return None


def _check_late_half(table: Table, row: Row) -> None:
    """Refuse a second text that only later rows have: reading on would drop it silently."""
    for column in row.cells:
        if column not in table.columns and column.strip().casefold() in HALVES:
            raise DataError(
                f"{Where(table.name, row.number, row.line)}: has {column!r}, which the first row has not; "
                "give every row both texts of the pair, or none"
            )
