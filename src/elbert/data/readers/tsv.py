"""Reads tab-separated files as GLUE writes them: one row a line, no quoting, so a stray quote is just a character.

Also knows CoLA's files, the one GLUE task without a header: source, label, mark, sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from elbert.data.lines import read_lines
from elbert.data.readers.csv import to_cells
from elbert.data.table import BrokenRowError, Table, check_columns, number_rows
from elbert.errors import DataError

COLA_COLUMNS = ("source", "label", "mark", "sentence")


def read_tsv(name: str, stream: BinaryIO) -> Table:
    """Read the header line, or know that there is none, then rows as they are asked for.

    Raises:
        DataError: an empty file, a header that is broken or names a column twice; later, a broken row.
    """
    records = _records(stream)
    try:
        line, columns = next(records)
    except StopIteration:
        raise DataError(f"{name}: the file is empty; it needs a header line with column names, then rows") from None
    except BrokenRowError as error:
        raise DataError(f"{name}: header (line {error.line}): {error}") from None
    if _is_cola(columns):
        records, columns = chain([(line, columns)], records), list(COLA_COLUMNS)
    check_columns(name, columns)
    return Table(name, tuple(columns), number_rows(name, to_cells(columns, records)))


def _is_cola(cells: list[str]) -> bool:
    return len(cells) == len(COLA_COLUMNS) and cells[1] in ("0", "1") and cells[2] in ("", "*")


def _records(stream: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """Yield `(line, cells)`, blank lines skipped."""
    for number, line in enumerate(read_lines(stream), start=1):
        cells = line.removesuffix("\n").removesuffix("\r")
        if cells:
            yield number, cells.split("\t")
