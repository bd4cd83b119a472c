"""Reads comma-separated files with a header line, as RFC 4180 and Python's own `csv` write them.

Quoted cells may hold commas, quotes and line ends; cells of any length pass. A row with more or fewer cells than the
header is an error, and so is a quote that never closes: both would otherwise shift texts and labels silently.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, BinaryIO

from elbert.data.lines import read_lines
from elbert.data.table import BrokenRowError, Table, check_columns, number_rows
from elbert.errors import DataError

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


def read_csv(name: str, stream: BinaryIO) -> Table:
    """Read the header line, then rows as they are asked for.

    Raises:
        DataError: an empty file, a header that is broken or names a column twice; later, a broken row.
    """
    lines = _records(stream)
    try:
        _, columns = next(lines)
    except StopIteration:
        raise DataError(f"{name}: the file is empty; it needs a header line with column names, then rows") from None
    except BrokenRowError as error:
        raise DataError(f"{name}: header (line {error.line}): {error}") from None
    check_columns(name, columns)
    return Table(name, tuple(columns), number_rows(name, to_cells(columns, lines)))


def to_cells(columns: Sequence[str], records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Pair every record's cells with the column names.

    Raises:
        BrokenRowError: a record has more or fewer cells than there are columns.
    """
    for line, cells in records:
        if len(cells) != len(columns):
            raise BrokenRowError(
                line,
                f"cells: {len(cells)}, where the header names {len(columns)}; "
                "a text that holds the separator or a line end needs quotes in a CSV file",
            )
        yield line, dict(zip(columns, cells, strict=True))


def _records(stream: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """Yield `(first line, cells)`, blank lines skipped."""
    reader = csv.reader(read_lines(stream), strict=True)
    while True:
        line = reader.line_num + 1
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
