"""Reads tab-separated files as GLUE writes them: one row a line, no quoting, so a stray quote is just a character.

pandas, R and spreadsheets quote. A file that looks so is told, and read with quotes as the format `tsv-quoted`.

Also knows CoLA's files, the one GLUE task without a header: source, label, mark, sentence.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from elbert.data.lines import read_lines
from elbert.data.readers.csv import read_csv, read_header, to_cells
from elbert.data.table import Table, check_columns, number_rows, shorten
from elbert.errors import DataWarning, UsageError

_QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)
_READ_QUOTED = "if its cells are quoted, read it with --input-format tsv-quoted"
COLA_COLUMNS = ("source", "label", "mark", "sentence")


def read_tsv(name: str, stream: BinaryIO) -> Table:
    """Read the header line, or know that there is none, then rows as they are asked for.

    Raises:
        DataError: an empty file, a header that is broken or names a column twice; later, a broken row.
    """
    records = _records(stream)
    line, columns = read_header(name, records)
    if all(_QUOTED.fullmatch(column) for column in columns):
        raise UsageError(f"{name}: the header's cells are quoted, so it is no .tsv as GLUE writes it; {_READ_QUOTED}")
    if _is_cola(columns):
        records, columns = chain([(line, columns)], records), list(COLA_COLUMNS)
    check_columns(name, columns)
    remedy = f"a text in a .tsv holds no tab and no line end; {_READ_QUOTED}"
    return Table(name, tuple(columns), number_rows(name, to_cells(columns, _tell_quoted(name, records), remedy)))


def read_quoted_tsv(name: str, stream: BinaryIO) -> Table:
    """Read a tab-separated file whose cells are quoted as in CSV, as pandas, R and spreadsheets write it.

    Raises:
        DataError: as `read_csv`.
    """
    return read_csv(name, stream, delimiter="\t")


def _tell_quoted(name: str, records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Hand records on, and warn at the first cell that some writer seems to have quoted."""
    told = False
    for line, cells in records:
        cell = None if told else next((cell for cell in cells if _looks_quoted(cell)), None)
        if cell is not None:
            told = True
            read = f"{name}: line {line} looks quoted ({shorten(cell)}), and is read as it stands, as GLUE writes it"
            warnings.warn(f"{read}; {_READ_QUOTED}", DataWarning, stacklevel=2)
        yield line, cells


def _looks_quoted(cell: str) -> bool:
    """Say whether a cell is in quotes and holds what needs them: doubled ones, or a carriage return."""
    return cell.startswith('"') and ('""' in cell or "\r" in cell) and len(cell) > 3 and bool(_QUOTED.fullmatch(cell))


def _is_cola(cells: list[str]) -> bool:
    return len(cells) == len(COLA_COLUMNS) and cells[1] in ("0", "1") and cells[2] in ("", "*")


def _records(stream: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """Yield `(line, cells)`, blank lines skipped."""
    for number, line in enumerate(read_lines(stream), start=1):
        cells = line.removesuffix("\n").removesuffix("\r")
        if cells:
            yield number, cells.split("\t")
