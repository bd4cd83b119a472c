"""The one shape every reader turns its source into: named columns and a stream of numbered rows.

Knows nothing of files, texts or labels. Rows are counted from 1 without the header, lines (where the source has lines)
from 1 with it, and every `DataError` about a row is worded here or through `Where`, so that all readers speak alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from elbert.errors import DataError, DataWarning

LONGEST_QUOTE = 60  # characters of a value that an error line shows


class Row(NamedTuple):
    """One data row.

    Attributes:
        number: from 1.
        line: of the file, from 1, where the row starts; None where the source has no lines.
        cells: by column; none where the row is broken.
        problem: why a reader can make nothing of this one row; None where it can.
    """

    number: int
    line: int | None
    cells: Mapping[str, Any]
    problem: str | None = None


class Where(NamedTuple):
    """A place in a source; `str()` gives the start of every error line about it."""

    source: str
    row: int
    line: int | None = None

    def __str__(self) -> str:
        """Return for example `reviews.csv: row 3 (line 4)`."""
        return f"{self.source}: row {self.row}" + (f" (line {self.line})" if self.line is not None else "")


@dataclass(frozen=True)
class Table:
    """A source, opened.

    Attributes:
        name: the source as errors name it.
        columns: column names; empty where the source has no row at all.
        rows: the rows in order, read as they are asked for; may be consumed once.
        class_names: names by class id, for columns whose source declares them (`datasets.ClassLabel`).
        marks_labels: whether the format itself says what is a label: nothing is guessed from how labels are written
            then, and a row without one has lost it.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterator[Row]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    marks_labels: bool = False


class BrokenRowError(ValueError):
    """What a reader can make nothing of; `number_rows` adds the source and the row number.

    Raised, it ends the reading. Given in the place of a row's cells, it says that this row is broken and the next may
    be whole.
    """

    def __init__(self, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.line = line


Record = tuple[int | None, Mapping[str, Any] | BrokenRowError]


def number_rows(source: str, records: Iterable[Record]) -> Iterator[Row]:
    """Number `(line, cells)` records from 1.

    Raises:
        DataError: the reader can't go on; the message names source, row and line.
    """
    number = 1
    try:
        for number, (line, cells) in enumerate(records, start=1):
            yield Row(number, line, {}, str(cells)) if isinstance(cells, BrokenRowError) else Row(number, line, cells)
            number += 1
    except BrokenRowError as error:
        raise DataError(f"{Where(source, number, error.line)}: {error}") from None


class BrokenRows:
    """What happens to rows that can't be read: the first one is an error, or all are skipped and counted.

    Args:
        skip: which of the two.

    Attributes:
        count: rows skipped so far.
    """

    def __init__(self, *, skip: bool) -> None:
        self._skip = skip
        self._first: DataError | None = None
        self.count = 0

    def meet(self, error: DataError) -> None:
        """Count a broken row, or raise its error.

        Raises:
            DataError: rows are not to be skipped; the message says how they would be.
        """
        if not self._skip:
            raise DataError(f"{error}; or --skip-broken-rows leaves such rows out") from None
        self._first = self._first or error
        self.count += 1

    def tell(self, source: str, rows: int) -> None:
        """Warn of what was skipped, if anything.

        Args:
            source: as errors name it.
            rows: how many there were in all.

        Raises:
            DataError: nothing else was there.
        """
        if self._first is None:
            return
        if self.count == rows:
            raise self._first
        told = f"{source}: {self.count:,} of {rows:,} rows skipped; the first: {self._first}"
        warnings.warn(told, DataWarning, stacklevel=3)


class EmptyTexts:
    """Counts the texts without a word, which are read like any other but seldom meant."""

    def __init__(self) -> None:
        self._count = 0
        self._first = 0

    def see(self, text: str | tuple[str, str], row: int) -> None:
        """Take note of a text, or of a pair, which has no word where neither half has one."""
        halves = (text,) if isinstance(text, str) else text
        if all(not half or half.isspace() for half in halves):
            self._count += 1
            self._first = self._first or row

    def tell(self, source: str, level: int = 3) -> None:
        """Warn of them once, if there were any.

        Args:
            source: as errors name it.
            level: of the stack, where the reader was asked.
        """
        if self._count:
            first = f"row {self._first}"
            where = first if self._count == 1 else f"{self._count:,} rows, the first of them {first}"
            told = f"{source}: the text is empty or blank in {where}; it is read as a text all the same"
            warnings.warn(told, DataWarning, stacklevel=level)


def check_columns(source: str, columns: Sequence[str]) -> None:
    """Refuse two columns of one name, because nobody could say which is meant.

    Raises:
        DataError: a name that is not empty occurs twice.
    """
    for position, column in enumerate(columns):
        if column and column in columns[:position]:
            raise DataError(f"{source}: column {column!r} occurs twice in {quote_names(columns)}; rename or drop one")


def shorten(value: object) -> str:
    """Return `repr(value)`, cut to what fits in an error line."""
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[: LONGEST_QUOTE - 1]}…"


def quote_names(names: Sequence[str], most: int = 12) -> str:
    """Return `'a', 'b', 'c'`, cut after `most` names."""
    rest = f" … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(shorten(name) for name in names[:most]) + rest
