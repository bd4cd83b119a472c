"""Finds which columns hold the text, its pair and the label: by the names people use, or as named by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elbert.data.table import Row, Table, Where, quote_names, shorten
from elbert.errors import DataError, UsageError, did_you_mean

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
    """Find the columns to read.

    Args:
        table: where to look.
        text_column: the text's column; where it is given, a pair must be named too.
        text_pair_column: the second text's column.
        label_column: the label's column.
        require_labels: whether to insist on a label column.

    Raises:
        UsageError: a named column is missing, none is found by name, or half a pair is missing.
    """
    text, pair = _find_texts(table, text_column, text_pair_column)
    if label_column is not None:
        return Columns(text, pair, _named(table, label_column, "--label-column"))
    names = {column.strip().casefold(): column for column in reversed(table.columns)}
    label = next((names[name] for name in LABEL_COLUMNS if name in names and names[name] not in (text, pair)), None)
    if label is None and require_labels:
        raise UsageError(
            f"{table.name}: no label column among {quote_names(table.columns)}; name it with --label-column, "
            f"or call it one of {quote_names(LABEL_COLUMNS[:3])}"
        )
    return Columns(text, pair, label)


def _find_texts(table: Table, text_column: str | None, text_pair_column: str | None) -> tuple[str, str | None]:
    pair = _named(table, text_pair_column, "--text-pair-column") if text_pair_column is not None else None
    if text_column is not None:
        return _named(table, text_column, "--text-column"), pair
    names = {column.strip().casefold(): column for column in reversed(table.columns)}
    if pair is None:
        for first, second in PAIR_COLUMNS:
            if first in names and second in names:
                return names[first], names[second]
        _check_halves(table, names)
    text = next((names[name] for name in TEXT_COLUMNS if name in names and names[name] != pair), None)
    if text is None:
        raise UsageError(
            f"{table.name}: no text column among {quote_names(table.columns)}; name it with --text-column, "
            f"or call it one of {quote_names(TEXT_COLUMNS[:4])}{_separator_hint(table.columns)}"
        )
    return text, pair


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


def _separator_hint(columns: Sequence[str]) -> str:
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        return "; a .csv file separates its columns with commas"
    return ""


def read_text(table: Table, row: Row, columns: Columns) -> str | tuple[str, str]:
    """Return a row's text, or its pair of texts. A text of no characters is a text.

    Raises:
        DataError: a text is missing, is no string, or holds characters that no tokenizer takes.
    """
    text = _read_cell(table, row, columns.text)
    if columns.text_pair is not None:
        return text, _read_cell(table, row, columns.text_pair)
    if len(row.cells) > len(table.columns):
        _check_late_half(table, row)
    return text


def _read_cell(table: Table, row: Row, column: str) -> str:
    value = row.cells.get(column)
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        problem = _bad_character(value)
        if problem is None:
            return value
    elif value is None or (isinstance(value, float) and value != value):
        problem = "the text is missing; give a text (an empty one is allowed), or drop the row"
    else:
        problem = f"{shorten(value)} is of type {type(value).__name__}, not a text; give a string"
    raise DataError(f"{Where(table.name, row.number, row.line)}, column {column!r}: {problem}")


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
