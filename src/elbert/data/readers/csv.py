"""Reads comma-separated files with a header line, as RFC 4180 and Python's own `csv` write them.

Quoted cells may hold commas, quotes and line ends; cells of any length pass. A row with more or fewer cells than the
header is an error, and so is a quote that never closes: both would otherwise shift texts and labels silently.
"""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from types import TracebackType
from typing import BinaryIO

from elbert.data.lines import read_lines
from elbert.data.table import BrokenRowError, Record, Table, check_columns, number_rows
from elbert.errors import DataError

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)
# What Python's csv says of the two commonest mistakes, in words about the file.
PROBLEMS = {
    "unexpected end of data": "a quote opened here never closes",
    "new-line character seen in unquoted field": "a carriage return outside quotes; save with LF or CRLF line ends",
}


class _LongCells:
    """Lifts `csv`'s process-wide cell limit while any reader is inside, and puts it back when the last one leaves."""

    longest = 2**31 - 1

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = csv.field_size_limit(self.longest)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                csv.field_size_limit(self._before)


_long_cells = _LongCells()


def read_csv(name: str, stream: BinaryIO, delimiter: str = ",") -> Table:
    """Read the header line, then rows as they are asked for.

    Args:
        name: what errors call the source.
        stream: its bytes.
        delimiter: what separates cells; a first line `sep=;`, as spreadsheets write it, overrules.

    Raises:
        DataError: an empty file, a header that is broken or names a column twice; later, a broken row.
    """
    lines = _records(stream, delimiter)
    _, columns = read_header(name, lines)
    check_columns(name, columns)
    remedy = "a text that holds the separator or a line end needs quotes in a CSV file"
    return Table(name, tuple(columns), number_rows(name, to_cells(columns, lines, remedy)))


def read_header(name: str, records: Iterator[tuple[int, list[str]]]) -> tuple[int, list[str]]:
    """Return the first record, `(line, cells)`, which names the columns.

    Raises:
        DataError: there is none, or it is broken.
    """
    try:
        return next(records)
    except StopIteration:
        raise DataError(f"{name}: the file is empty; it needs a header line with column names, then rows") from None
    except BrokenRowError as error:
        raise DataError(f"{name}: header (line {error.line}): {error}") from None


def to_cells(columns: Sequence[str], records: Iterable[tuple[int, list[str]]], remedy: str) -> Iterator[Record]:
    """Pair every record's cells with the column names; one with more or fewer cells is a broken row.

    Args:
        columns: names from the header.
        records: `(line, cells)`.
        remedy: what to do where the widths differ.
    """
    for line, cells in records:
        if len(cells) == len(columns):
            yield line, dict(zip(columns, cells, strict=True))
        else:
            problem = f"cells: {len(cells)}, where the header names {len(columns)}; {remedy}"
            yield line, BrokenRowError(line, problem)


def _records(stream: BinaryIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield `(first line, cells)`, blank lines skipped, and so is a first line that only names the delimiter."""
    lines = read_lines(stream)
    first = next(lines, "")
    named = _SEPARATOR_LINE.fullmatch(first)
    skipped = 1 if named else 0
    reader = csv.reader(
        lines if named else chain([first], lines), strict=True, delimiter=named[1] if named else delimiter
    )
    while True:
        line = reader.line_num + 1 + skipped
        try:
            with _long_cells:
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = next((words for start, words in PROBLEMS.items() if str(error).startswith(start)), str(error))
            raise BrokenRowError(line, f"not valid CSV ({problem}); quote the cell, double the quotes in it") from None
        if cells:
            yield line, cells
