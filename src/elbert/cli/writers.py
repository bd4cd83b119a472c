"""The two shapes of `elbert predict`'s answers: JSON lines, and the input's rows as CSV with the answer added."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TextIO

from elbert.cli.console import json_line
from elbert.data.columns import half_surrogate
from elbert.data.table import quote_names, shorten
from elbert.data.values import SEPARATOR
from elbert.errors import DataError, DataWarning, UsageError, did_you_mean

if TYPE_CHECKING:
    from elbert.results import Prediction

_LINE_END = "\r\n"


class Writer(Protocol):
    """Takes one answer after another.

    Attributes:
        takes_cells: whether it writes the input's cells; where not, none are needed.
    """

    takes_cells: ClassVar[bool]

    def write(self, columns: tuple[str, ...], cells: Mapping[str, Any], prediction: Prediction) -> None:
        """Write the answer to the row with these cells; `columns` are the same for every row."""


class JsonLines:
    """One JSON object a line; the input's cells are left out."""

    takes_cells: ClassVar[bool] = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, columns: tuple[str, ...], cells: Mapping[str, Any], prediction: Prediction) -> None:
        """Write one line."""
        del columns, cells
        self._stream.write(json_line(prediction.to_dict()) + "\n")


class CsvRows:
    """The input's columns as they are, then the answer's, each under a name that is still free."""

    takes_cells: ClassVar[bool] = True

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._row = io.StringIO(newline="")
        # Older Pythons quote a cell with a carriage return only where the line end has one.
        self._cells = csv.writer(self._row, lineterminator=_LINE_END)
        self._written = 0
        self._told = False

    def write(self, columns: tuple[str, ...], cells: Mapping[str, Any], prediction: Prediction) -> None:
        """Write one row, the header before the first."""
        answer = prediction.to_dict()
        if len(cells) > len(columns):
            self._tell_left_out([column for column in cells if column not in columns])
        if not self._written:
            header = list(columns)
            for name in answer:
                header.append(_free(name, header))
            self._write(header)
        self._written += 1
        self._write(
            [*(self._checked(cells.get(column), column) for column in columns), *map(self._answer, answer.values())]
        )

    def _tell_left_out(self, more: Sequence[str]) -> None:
        """Warn, once, of cells for which the header, long since written, has no column."""
        if not self._told:
            self._told = True
            row = f"the row of answer {self._written + 1} has {quote_names(more)}, which the first row has not"
            told = f"{row}; CSV output leaves such cells out: give the first row every key, if only as null"
            warnings.warn(told, DataWarning, stacklevel=3)

    def _write(self, cells: Sequence[Any]) -> None:
        self._cells.writerow(cells)
        self._stream.write(self._row.getvalue().removesuffix(_LINE_END) + "\n")
        self._row.seek(0)
        self._row.truncate()

    def _answer(self, value: Any) -> Any:
        """Return an answer's value as CSV has it: lists joined, booleans as in JSON, nothing for None.

        Raises:
            DataError: a label holds the mark that joins labels.
        """
        if not isinstance(value, list):
            return json.dumps(value) if isinstance(value, bool) else value
        odd = next((each for each in value if SEPARATOR in str(each)), None)
        if odd is not None:
            problem = f"label {shorten(odd)} holds {SEPARATOR!r}, which stands between labels in a CSV file"
            raise DataError(f"answer {self._written}: {problem}; write JSON lines with --output-format jsonl")
        return SEPARATOR.join(map(str, value))

    def _checked(self, value: Any, column: str) -> Any:
        """Return a cell of the input as CSV has it.

        Raises:
            DataError: it holds what no CSV file does.
        """
        cell = _cell(value)
        if isinstance(cell, str) and ("\0" in cell or half_surrogate(cell)):
            raise DataError(
                f"answer {self._written}, column {column!r}: {shorten(cell)} holds NUL or half a surrogate pair, which "
                "CSV can't; write JSON lines with --output-format jsonl, or drop the column"
            )
        return cell


def _free(name: str, taken: Sequence[str]) -> str:
    """Return the name, or the first of `predicted_NAME`, `predicted_NAME_2` and so on that is not taken."""
    numbered = (f"predicted_{name}_{number}" for number in count(2))
    return next(each for each in chain([name, f"predicted_{name}"], numbered) if each not in taken)


def _cell(value: Any) -> Any:
    """Return a value of the input as CSV has it: lists and objects as JSON, bytes as the text they hold."""
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return bytes(value).decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else value


FORMATS: dict[str, type[JsonLines] | type[CsvRows]] = {"jsonl": JsonLines, "csv": CsvRows}
_EXTENSIONS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}


def format_of(output: str, named: str | None) -> str:
    """Return the format to write: the one named, else the one the file's extension says; JSON lines on stdout.

    Raises:
        UsageError: an unknown format or extension.
    """
    if named is not None:
        if named not in FORMATS:
            raise UsageError(f"unknown output format {named!r}{did_you_mean(named, FORMATS)}")
        return named
    if output == "-":
        return "jsonl"
    extension = Path(output).suffix.lower()
    if extension not in _EXTENSIONS:
        hint = did_you_mean(extension, _EXTENSIONS)
        raise UsageError(f"unknown extension {extension!r} of output {output!r}{hint}; or give --output-format")
    return _EXTENSIONS[extension]
