"""The two shapes of `elbert predict`'s answers: JSON lines, and the input's rows as CSV with the answer added."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from elbert.cli.console import json_line
from elbert.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from elbert.results import Prediction

# Between the labels, and the scores, of one multi-label answer; as in the data files.
_SEPARATOR = ";"


class Writer(Protocol):
    """Takes one answer after another."""

    def write(self, columns: tuple[str, ...], cells: Mapping[str, Any], prediction: Prediction) -> None:
        """Write the answer to the row with these cells; `columns` are the same for every row."""


class JsonLines:
    """One JSON object a line; the input's cells are left out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, columns: tuple[str, ...], cells: Mapping[str, Any], prediction: Prediction) -> None:
        """Write one line."""
        del columns, cells
        self._stream.write(json_line(prediction.to_dict()) + "\n")


class CsvRows:
    """The input's columns as they are, then the answer's, each under a name that is still free."""

    def __init__(self, stream: TextIO) -> None:
        self._rows = csv.writer(stream, lineterminator="\n")
        self._begun = False

    def write(self, columns: tuple[str, ...], cells: Mapping[str, Any], prediction: Prediction) -> None:
        """Write one row, the header before the first."""
        answer = prediction.to_dict()
        if not self._begun:
            header = list(columns)
            for name in answer:
                header.append(_free(name, header))
            self._rows.writerow(header)
            self._begun = True
        self._rows.writerow([*(cells.get(column) for column in columns), *map(_cell, answer.values())])


def _free(name: str, taken: Sequence[str]) -> str:
    """Return the name, or the first of `predicted_NAME`, `predicted_NAME_2` and so on that is not taken."""
    numbered = (f"predicted_{name}_{number}" for number in count(2))
    return next(each for each in chain([name, f"predicted_{name}"], numbered) if each not in taken)


def _cell(value: Any) -> Any:
    """Return an answer's value as CSV has it: lists joined, booleans as in JSON, nothing for None."""
    if isinstance(value, list):
        return _SEPARATOR.join(map(str, value))
    return json.dumps(value) if isinstance(value, bool) else value


FORMATS: dict[str, Callable[[TextIO], Writer]] = {"jsonl": JsonLines, "csv": CsvRows}
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
